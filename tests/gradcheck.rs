//! Every op's gradient agrees with central differences in `f64`, on random shapes.

use kdengine::conformance::{gradcheck, registry};
use kdengine::ops::OpSpec;
use kdengine::Device;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_op_agrees_with_finite_differences(seed in any::<u64>()) {
        for spec in registry() {
            if let Some(row) = gradcheck(spec, 2, seed, Device::Reference).unwrap() {
                prop_assert!(row.passed(), "{row:?}");
            }
        }
    }
}

#[cfg(feature = "emulator")]
#[test]
fn the_cuda_kernels_gradients_agree_with_finite_differences() {
    for spec in registry() {
        if let Some(row) = gradcheck(spec, 3, 7, Device::Emulator).unwrap() {
            assert!(row.passed(), "{row:?}");
        }
    }
}

#[test]
fn a_wrong_gradient_is_noticed() {
    let right = registry().find(|spec| spec.name == "square").unwrap();
    // The value of x², with the gradient of 2x² − (x², detached).
    let wrong = OpSpec {
        name: "wrong",
        run: |case| {
            let x = case.tensor("x")?;
            let square = x.square()?;
            Ok(vec![("y", square.add(&square)?.sub(&square.detach())?)])
        },
        sample: right.sample,
    };
    assert!(gradcheck(right, 3, 1, Device::Reference).unwrap().unwrap().passed());
    assert!(!gradcheck(&wrong, 3, 1, Device::Reference).unwrap().unwrap().passed());
}
