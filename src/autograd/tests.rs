use super::*;
use crate::tensor::{DType, Device};

fn variable(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, [values.len()], Device::Reference).unwrap().variable()
}

fn gradient(gradients: &Gradients, x: &Tensor) -> Vec<f64> {
    gradients.get(x).expect("a gradient").to_f64_vec().unwrap()
}

#[test]
fn a_variable_used_twice_collects_both_gradients() {
    let x = variable(&[3.0]);
    let y = x.mul(&x).unwrap().add(&x).unwrap();
    assert_eq!(gradient(&y.backward().unwrap(), &x), [7.0]);
}

#[test]
fn nothing_flows_through_detach_or_no_grad() {
    let x = variable(&[3.0]);
    let y = x.detach().mul(&x).unwrap();
    assert_eq!(gradient(&y.backward().unwrap(), &x), [3.0]);
    let y = no_grad(|| x.square().unwrap());
    assert!(!y.is_tracked());
    assert!(y.backward().unwrap().is_empty());
}

#[test]
fn recording_resumes_after_a_panic_inside_no_grad() {
    let caught = std::panic::catch_unwind(|| no_grad(|| panic!("inside")));
    assert!(caught.is_err() && is_recording());
}

#[test]
fn a_graph_can_be_differentiated_once() {
    let x = variable(&[2.0]);
    let y = x.square().unwrap();
    y.backward().unwrap();
    let error = y.backward().err().unwrap().to_string();
    assert!(error.contains("`square` was already differentiated"), "{error}");
}

#[test]
fn only_scalars_have_a_default_gradient() {
    let x = variable(&[1.0, 2.0]);
    let y = x.square().unwrap();
    assert!(y.backward().is_err());
    let seed = Tensor::from_slice(&[1.0, 10.0], [2], Device::Reference).unwrap();
    assert_eq!(gradient(&y.backward_from(&seed).unwrap(), &x), [2.0, 40.0]);
    let wrong = Tensor::zeros([2], DType::F32, Device::Reference).unwrap();
    assert!(x.square().unwrap().backward_from(&wrong).is_err());
}

#[test]
fn a_chain_of_a_hundred_thousand_ops_is_freed_without_recursion() {
    let x = variable(&[1.0]);
    let mut y = x.clone();
    for _ in 0..100_000 {
        y = y.affine(1.0, 0.0).unwrap();
    }
    drop(y.clone());
    assert_eq!(gradient(&y.backward().unwrap(), &x), [1.0]);
    let mut z = x.mul(&x).unwrap();
    for _ in 0..100_000 {
        z = z.mul(&x).unwrap();
    }
    drop(z);
}

#[test]
fn observers_see_every_op_and_its_cost() {
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = seen.clone();
    let x = variable(&[1.0, 2.0]);
    observe(move |event| log.borrow_mut().push((event.op, event.cost.flops)), || x.square().unwrap().exp().unwrap());
    assert_eq!(*seen.borrow(), [("square", 2.0), ("exp", 2.0)]);
}
