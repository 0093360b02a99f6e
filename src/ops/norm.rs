//! Batch normalisation (Ioffe & Szegedy 2015) and layer normalisation (Ba et al. 2016).

use super::case::{sample_extent, sample_normal, sample_positive, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::error::{Error, Result};
use crate::tensor::random::Sequence;
use crate::tensor::{Shape, Tensor};

/// What batch normalisation in training returns.
pub struct BatchNormTrain {
    /// The normalised tensor.
    pub y: Tensor,
    /// The batch's mean for each channel.
    pub mean: Tensor,
    /// The batch's unbiased variance for each channel, which running statistics are updated with.
    pub unbiased_var: Tensor,
}

impl Tensor {
    /// Normalises `[n, c, …]` over all dimensions but `c` with the batch's own (biased) statistics, then scales and shifts.
    ///
    /// # Errors
    /// Shapes that do not fit, or a single value a channel, whose variance means nothing.
    pub fn batch_norm_train(&self, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<BatchNormTrain> {
        const OP: &str = "batch_norm";
        let channels = check_channels(OP, self, &[("weight", weight), ("bias", bias)])?;
        let count = self.numel() / channels.max(1);
        if count < 2 {
            let expected = "more than one value a channel, as its own statistics need".to_string();
            return Err(check::shape_error(OP, "x", self, expected));
        }
        let (x, w, backend) = (self.detach(), weight.detach(), self.backend());
        let output = backend.batch_norm(&x, &w, bias, eps)?;
        let unbiased_var = backend.affine(&output.var, count as f64 / (count - 1) as f64, 0.0)?;
        let (mean, rstd) = (output.mean.clone(), output.rstd);
        let cost = Cost::new(8.0 * self.numel() as f64, &[self, &output.y]);
        let y = record(OP, cost, output.y, &[self, weight, bias], move |dy, _| {
            Ok(backend.batch_norm_grad(&x, &w, dy, &mean, &rstd)?.map(Some).to_vec())
        })?;
        Ok(BatchNormTrain { y, mean: output.mean, unbiased_var })
    }

    /// Mean and biased variance of each channel of `[n, c, h, w]`, both `[c]`.
    ///
    /// # Errors
    /// Not four dimensions.
    pub fn channel_moments(&self) -> Result<(Tensor, Tensor)> {
        check::rank("channel_moments", "self", self, 4, "[n, c, h, w]")?;
        let mean = self.mean(&[0, 2, 3], true)?;
        let var = self.sub(&mean)?.square()?.mean(&[0, 2, 3], false)?;
        Ok((mean.flatten(0)?, var))
    }

    /// As [`Tensor::batch_norm_train`], with running statistics instead of the batch's.
    pub fn batch_norm_eval(
        &self,
        weight: &Tensor,
        bias: &Tensor,
        mean: &Tensor,
        var: &Tensor,
        eps: f64,
    ) -> Result<Tensor> {
        let vectors = [("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", var)];
        let channels = check_channels("batch_norm_eval", self, &vectors)?;
        let mut dims = vec![1; self.shape().rank()];
        dims[1] = channels;
        let shape = Shape::new(&dims)?;
        let sd = var.detach().affine(1.0, eps)?.sqrt()?;
        let centred = self.sub(&mean.detach().reshape(shape)?)?;
        centred.mul(&weight.div(&sd)?.reshape(shape)?)?.add(&bias.reshape(shape)?)
    }

    /// These weights `[c_out, …]` of a convolution without bias, and a bias, with which it computes what [`Tensor::batch_norm_eval`]
    /// would make of its output.
    ///
    /// # Errors
    /// A vector does not have c_out elements.
    pub fn fold_batch_norm(
        &self,
        weight: &Tensor,
        bias: &Tensor,
        mean: &Tensor,
        var: &Tensor,
        eps: f64,
    ) -> Result<(Tensor, Tensor)> {
        const OP: &str = "fold_batch_norm";
        check::dim(OP, self, 0)?;
        let channels = Shape::from([self.shape()[0]]);
        let vectors = [("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", var)];
        check_vectors(OP, self, &vectors, &channels)?;
        check_eps(OP, eps)?;
        let scale = weight.div(&var.detach().affine(1.0, eps)?.sqrt()?)?;
        let mut dims = vec![1; self.shape().rank()];
        dims[0] = self.shape()[0];
        Ok((self.mul(&scale.reshape(Shape::new(&dims)?)?)?, bias.sub(&mean.detach().mul(&scale)?)?))
    }

    /// Normalises each row (the last dimension) to mean 0 and variance 1 (biased), then scales and shifts.
    pub fn layer_norm(&self, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        const OP: &str = "layer_norm";
        check::dim(OP, self, 0)?;
        let row = Shape::from([self.shape()[self.shape().rank() - 1]]);
        check_vectors(OP, self, &[("weight", weight), ("bias", bias)], &row)?;
        check_eps(OP, eps)?;
        let (x, w, backend) = (self.detach(), weight.detach(), self.backend());
        let [y, mean, rstd] = backend.layer_norm(&x, &w, bias, eps)?;
        let cost = Cost::new(8.0 * self.numel() as f64, &[self, &y]);
        record(OP, cost, y, &[self, weight, bias], move |dy, _| {
            Ok(backend.layer_norm_grad(&x, &w, dy, &mean, &rstd)?.map(Some).to_vec())
        })
    }
}

fn check_vectors(op: &'static str, x: &Tensor, vectors: &[(&'static str, &Tensor)], shape: &Shape) -> Result<()> {
    for (name, vector) in vectors {
        check::alike(op, x, name, vector)?;
        check::shape(op, name, vector, shape)?;
    }
    Ok(())
}

/// `x` is `[n, c, …]` and every vector has one value a channel; returns c.
fn check_channels(op: &'static str, x: &Tensor, vectors: &[(&'static str, &Tensor)]) -> Result<usize> {
    check::dim(op, x, 1)?;
    let channels = x.shape()[1];
    check_vectors(op, x, vectors, &Shape::from([channels]))?;
    Ok(channels)
}

fn check_eps(op: &'static str, eps: f64) -> Result<()> {
    match eps > 0.0 {
        true => Ok(()),
        false => Err(Error::argument(op, format!("eps must be above 0, found {eps}"))),
    }
}

fn sample_channels(random: &mut Sequence) -> Case {
    let (n, c, side) = (sample_extent(random, 2, 4), sample_extent(random, 1, 3), sample_extent(random, 1, 3));
    Case::new()
        .input("x", sample_normal(random, &[n, c, side, side]))
        .input("weight", sample_normal(random, &[c]))
        .input("bias", sample_normal(random, &[c]))
        .input("running_mean", sample_normal(random, &[c]))
        .input("running_var", sample_positive(random, &[c]))
        .attr("eps", 1e-3)
        .attr("detached", vec!["running_mean", "running_var"])
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "batch_norm2d_train",
        run: |case| {
            let batch = case.tensor("x")?.batch_norm_train(
                &case.tensor("weight")?,
                &case.tensor("bias")?,
                case.number("eps")?,
            )?;
            let keep = 1.0 - case.number("momentum")?;
            let running = |name, batch: &Tensor| {
                let mut running = case.tensor(name)?.detach();
                running.backend().lerp(&mut running, batch, keep)?;
                Ok::<Tensor, Error>(running)
            };
            let (mean, var) = (running("running_mean", &batch.mean)?, running("running_var", &batch.unbiased_var)?);
            Ok(vec![("y", batch.y), ("running_mean", mean), ("running_var", var)])
        },
        sample: Some(|random| sample_channels(random).attr("momentum", 0.1)),
    },
    OpSpec {
        name: "batch_norm2d_eval",
        run: |case| {
            let (mean, var) = (case.tensor("running_mean")?, case.tensor("running_var")?);
            let (weight, bias) = (case.tensor("weight")?, case.tensor("bias")?);
            Ok(vec![("y", case.tensor("x")?.batch_norm_eval(&weight, &bias, &mean, &var, case.number("eps")?)?)])
        },
        sample: Some(sample_channels),
    },
    OpSpec {
        name: "layer_norm",
        run: |case| {
            let y =
                case.tensor("x")?.layer_norm(&case.tensor("weight")?, &case.tensor("bias")?, case.number("eps")?)?;
            Ok(vec![("y", y)])
        },
        sample: Some(|random| {
            let (rows, width) = (sample_extent(random, 1, 4), sample_extent(random, 2, 6));
            Case::new()
                .input("x", sample_normal(random, &[rows, width]))
                .input("weight", sample_normal(random, &[width]))
                .input("bias", sample_normal(random, &[width]))
                .attr("eps", 1e-3)
        }),
    },
];
