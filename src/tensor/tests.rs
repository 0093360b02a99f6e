use super::*;

#[test]
fn values_round_trip_through_every_dtype() {
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16, DType::I32, DType::U8] {
        let t = Tensor::from_slice(&[0.0f32, 1.0, 2.0, 100.0], [2, 2], Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        assert_eq!(t.dtype(), dtype);
        assert_eq!(t.to_f64_vec().unwrap(), [0.0, 1.0, 2.0, 100.0], "{dtype}");
    }
}

#[test]
fn narrowing_rounds_and_saturates() {
    let t = Tensor::from_slice(&[-3.0f32, 1.5, 300.0, f32::NAN], [4], Device::Cpu).unwrap();
    assert_eq!(t.to_dtype(DType::U8).unwrap().to_vec::<u8>().unwrap(), [0, 2, 255, 0]);
    assert_eq!(
        Tensor::full([1], 1e300, DType::F64, Device::Cpu)
            .unwrap()
            .to_dtype(DType::I32)
            .unwrap()
            .to_vec::<i32>()
            .unwrap(),
        [i32::MAX]
    );
}

#[test]
fn a_write_to_one_tensor_never_shows_in_its_clone() {
    let a = Tensor::zeros([3], DType::F32, Device::Cpu).unwrap();
    let mut b = a.clone();
    b.storage_mut().as_mut_slice::<f32>()[0] = 1.0;
    assert_eq!(a.to_vec::<f32>().unwrap(), [0.0; 3]);
    assert_eq!(b.to_vec::<f32>().unwrap(), [1.0, 0.0, 0.0]);
}

#[test]
fn wrong_sizes_and_types_are_named() {
    let error = Tensor::from_slice(&[1.0f32], [2, 2], Device::Cpu).unwrap_err().to_string();
    assert_eq!(error, "from_slice: `values` has shape 1 values, expected 4 values for shape [2, 2]");
    let t = Tensor::zeros([2], DType::F32, Device::Cpu).unwrap();
    assert!(t.to_vec::<i32>().unwrap_err().to_string().contains("f32"));
    assert!(t.item().unwrap_err().to_string().contains("[2]"));
    assert!(Shape::new(&[usize::MAX, 2]).is_err());
    assert!(Shape::new(&[1; MAX_RANK + 1]).is_err());
}

#[test]
fn debug_output_is_readable() {
    let t = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2], Device::Cpu).unwrap();
    assert_eq!(format!("{t:?}"), "Tensor(f32 [2, 2] cpu) [[1.0000, 2.0000],\n [3.0000, 4.0000]]");
    let long = Tensor::zeros([100], DType::I32, Device::Cpu).unwrap();
    assert_eq!(format!("{long:?}"), "Tensor(i32 [100] cpu) [0, 0, 0, …, 0, 0, 0]");
}

#[test]
fn broadcasting_follows_numpy() {
    let broadcast =
        |a: &[usize], b: &[usize]| Shape::broadcast("add", &Shape::new(a).unwrap(), &Shape::new(b).unwrap());
    assert_eq!(broadcast(&[2, 1, 4], &[3, 1]).unwrap().dims(), [2, 3, 4]);
    assert_eq!(broadcast(&[], &[3]).unwrap().dims(), [3]);
    let error = broadcast(&[2, 3], &[4]).unwrap_err().to_string();
    assert!(error.starts_with("add: `b` has shape [4], expected a shape that broadcasts with [2, 3]"), "{error}");
}
