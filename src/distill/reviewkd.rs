//! Chen et al., "Distilling Knowledge via Knowledge Review" (ReviewKD), 2021: early layers of the teacher guide later layers of the
//! student. From the deepest stage back, an attention-based fusion (ABF, section 3.3) merges a stage with what was made of the deeper ones,
//! and the result is compared with the teacher's stage by a hierarchical context loss (HCL): mean squared differences of the maps and of
//! their averages over 4×4, 2×2 and 1×1 bins, weighed 1, ½, ¼, ⅛ and divided by the sum of the weights.

use super::cases::maps;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::{image_size, same_size};
use super::method::{plus, times};
use super::taps::TapPair;
use super::{Loss, Method, StepInputs};
use crate::error::{Error, Result};
use crate::nn::{BatchNorm2d, Context, Conv2d, ConvThen, Init, Module, Sequential, Visitor};
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "reviewkd",
    paper: "Chen et al. 2021",
    family: Family::Feature,
    about: "every stage reviews the deeper ones through attention-based fusion",
    formula: "Σ over stages of HCL(ABF(f_s, deeper), f_t), HCL = Σ w · mean (pool(a) − pool(b))² over 4 scales",
    needs: Needs::features(Taps::Stages),
    weight: 5.0,
    hard_weight: 1.0,
    cost: 20.0,
    when: "For the best result that a feature loss gives, when training time matters less.",
    traps: &[
        "It trains the most parameters of its own of all feature losses.",
        "Without the warm-up the early steps diverge.",
    ],
    hyperparameters: &[
        Hyperparameter::count("mid-channels", [1, 4096], 64, "channels within the fusion; the paper uses 64 to 512"),
        Hyperparameter::count(
            "warm-up-epochs",
            [0, 100000],
            20,
            "epochs over which the term grows from 0 to its full weight",
        ),
    ],
    build: |setup| {
        setup.pairs.iter().try_for_each(|pair| pair.require_maps(INFO.name))?;
        let mid = setup.settings.count("mid-channels");
        let mut stages = Vec::new();
        for (i, pair) in setup.pairs.iter().rev().enumerate() {
            stages.push((pair.clone(), Fusion::new(&mut setup.init, pair, mid, i > 0)?));
        }
        Ok(Box::new(ReviewKd { stages, warm_up: setup.settings.count("warm-up-epochs") }))
    },
    specs: SPECS,
};

/// The hierarchical context loss of two maps of one shape.
///
/// # Errors
/// The shapes differ.
pub fn hierarchical_context(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let teacher = teacher.detach();
    let size = image_size(student)?;
    let (mut sum, mut weight, mut weights) = (student.mse_loss(&teacher)?, 1.0, 1.0);
    for bins in [4, 2, 1].into_iter().filter(|&bins| bins < size[0] && bins < size[1]) {
        weight /= 2.0;
        weights += weight;
        let pooled = |x: &Tensor| x.adaptive_avg_pool2d([bins, bins]);
        sum = sum.add(&pooled(student)?.mse_loss(&pooled(&teacher)?)?.affine(weight, 0.0)?)?;
    }
    sum.affine(1.0 / weights, 0.0)
}

/// The attention-based fusion of one stage.
struct Fusion {
    /// To the middle channels.
    inward: Sequential,
    /// Two attention maps, of this stage and of the deeper ones; absent at the deepest stage.
    attention: Option<Conv2d>,
    /// To the teacher's channels.
    outward: Sequential,
}

impl Fusion {
    fn new(init: &mut Init, pair: &TapPair, mid: usize, deeper: bool) -> Result<Fusion> {
        let [from, to] = pair.channels();
        let inward =
            Sequential::new().then("conv", Conv2d::new(init, from, mid, 1)?).then("norm", BatchNorm2d::new(init, mid)?);
        let attention = deeper.then(|| Conv2d::new(init, 2 * mid, 2, 1)).transpose()?;
        let outward = Sequential::new()
            .then("conv", Conv2d::same(init, mid, to, 3, ConvThen::Nothing)?)
            .then("norm", BatchNorm2d::new(init, to)?);
        Ok(Fusion { inward, attention, outward })
    }

    /// What is compared with the teacher, and what the next shallower stage reviews.
    fn forward(&self, stage: &Tensor, deeper: Option<&Tensor>, cx: &mut Context) -> Result<(Tensor, Tensor)> {
        let mut merged = self.inward.forward(stage, cx)?;
        if let (Some(attention), Some(deeper)) = (&self.attention, deeper) {
            // The deeper map is smaller: bins that overlap repeat it.
            let deeper = deeper.adaptive_avg_pool2d(image_size(&merged)?)?;
            let weights = attention.forward(&Tensor::concat(&[&merged, &deeper], 1)?, cx)?.sigmoid()?;
            let own = merged.mul(&weights.narrow(1, 0, 1)?)?;
            merged = own.add(&deeper.mul(&weights.narrow(1, 1, 1)?)?)?;
        }
        Ok((self.outward.forward(&merged, cx)?, merged))
    }
}

struct ReviewKd {
    /// From the deepest to the shallowest.
    stages: Vec<(TapPair, Fusion)>,
    warm_up: usize,
}

impl Method for ReviewKd {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let cx = &mut Context::train(inputs.rng);
        let (mut deeper, mut sum): (Option<Tensor>, Option<Tensor>) = (None, None);
        for (pair, fusion) in &self.stages {
            let (student, teacher) = inputs.features(pair)?;
            let (out, merged) = fusion.forward(student, deeper.as_ref(), cx)?;
            let (out, teacher) = same_size(&out, &teacher.detach())?;
            sum = Some(plus(sum, &hierarchical_context(&out, &teacher)?)?);
            deeper = Some(merged);
        }
        let sum = sum.ok_or_else(|| Error::argument(INFO.name, "there is nothing to compare"))?;
        let grown = (inputs.epoch as f64 / self.warm_up.max(1) as f64).min(1.0);
        let loss = Loss::single(INFO.name, sum);
        Ok(Loss { total: times(&loss.total, grown)?, ..loss })
    }

    fn visit(&self, visitor: &mut Visitor) {
        for (i, (_, fusion)) in self.stages.iter().enumerate() {
            visitor.group(&format!("fusion{i}"), |visitor| {
                visitor.child("inward", &fusion.inward);
                if let Some(attention) = &fusion.attention {
                    visitor.child("attention", attention);
                }
                visitor.child("outward", &fusion.outward);
            });
        }
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "hierarchical_context",
    run: |case| Ok(vec![("loss", hierarchical_context(&case.tensor("student")?, &case.tensor("teacher")?)?)]),
    sample: Some(|random| maps(random, [2, 2], [5, 5])),
}];
