//! Gradient descent against PyTorch's and against its formula.

use aca_models::optimizers::Sgd;
use candle_core::{DType, Device, Tensor, Var};

use crate::activations::filled;

fn named(var: &Var) -> Vec<(String, Var)> {
    vec![("x".to_owned(), var.clone())]
}

fn cubic(x: &Var) -> Tensor {
    let x = x.as_tensor();
    ((x.sqr().unwrap() * x).unwrap() - x).unwrap().sum_all().unwrap()
}

#[test]
fn three_steps_are_those_of_pytorch() {
    // x = torch.tensor([0.5, -1.25, 3.0], dtype=torch.float64, requires_grad=True)
    // sgd = torch.optim.SGD([x], lr=0.1, momentum=0.9, weight_decay=0.01)
    // for lr in [0.1, 0.1, 0.05]:
    //     sgd.param_groups[0]["lr"] = lr
    //     sgd.zero_grad()
    //     (x**3 - x).sum().backward()
    //     sgd.step()
    // print(x.tolist(), sgd.state[x]["momentum_buffer"].tolist())
    let expected: [f64; 3] = [0.5831325544381104, -4.075257661995372, -3.410836878405815];
    let buffer: [f64; 3] = [-0.3927425887622083, 28.874665739907428, 30.349143568116283];
    let x = Var::new(&[0.5f64, -1.25, 3.0], &Device::Cpu).unwrap();
    let mut sgd = Sgd::new(named(&x), 0.1, 0.9, 0.01).unwrap();
    for lr in [0.1, 0.1, 0.05] {
        sgd.lr = lr;
        sgd.step(&cubic(&x).backward().unwrap()).unwrap();
    }
    let (name, ours) = &sgd.momentum_buffers()[0];
    assert_eq!(name, "x");
    let ours = [x.as_tensor(), ours.as_tensor()].map(|x| x.to_vec1::<f64>().unwrap());
    for (ours, theirs) in ours.iter().flatten().zip(expected.iter().chain(&buffer)) {
        let bound = 1e-13 * theirs.abs();
        assert!((ours - theirs).abs() <= bound, "{ours}, PyTorch {theirs}, bound {bound:e}");
    }
}

#[test]
fn every_entry_of_a_large_parameter_moves_by_the_formula() {
    let x = Var::from_tensor(&filled(&[3, 70_001], DType::F32)).unwrap();
    let mut sgd = Sgd::new(named(&x), 0.125, 0.5, 0.25).unwrap();
    let (mut by_hand, mut buffer) = (x.flatten_all().unwrap().to_vec1::<f32>().unwrap(), vec![]);
    for _ in 0..2 {
        let gradient = filled(&[3, 70_001], DType::F32).sin().unwrap();
        let g = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        buffer.resize(g.len(), 0.0f32);
        for ((x, buffer), g) in by_hand.iter_mut().zip(&mut buffer).zip(g) {
            *buffer = 0.5 * *buffer + (g + 0.25 * *x);
            *x -= 0.125 * *buffer;
        }
        let grads = (x.as_tensor() * gradient).unwrap().sum_all().unwrap().backward().unwrap();
        sgd.step(&grads).unwrap();
    }
    let ours = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let off = ours.iter().zip(&by_hand).position(|(ours, by_hand)| ours != by_hand);
    assert_eq!(off, None, "the first entry that differs");
}

#[test]
fn a_parameter_without_a_gradient_stays() {
    let [x, idle] = [1.0f64, 2.0].map(|x| Var::new(&[x], &Device::Cpu).unwrap());
    let parameters = vec![("x".to_owned(), x.clone()), ("idle".to_owned(), idle.clone())];
    let mut sgd = Sgd::new(parameters, 0.1, 0.9, 0.5).unwrap();
    sgd.step(&x.sqr().unwrap().backward().unwrap()).unwrap();
    assert_eq!(idle.to_vec1::<f64>().unwrap(), [2.0]);
    assert_eq!(sgd.momentum_buffers()[1].1.to_vec1::<f64>().unwrap(), [0.0]);
}

#[test]
fn restored_buffers_resume_a_run_to_the_last_bit() {
    let x = Var::new(&[0.3f64, -0.7], &Device::Cpu).unwrap();
    let mut sgd = Sgd::new(named(&x), 0.05, 0.9, 0.01).unwrap();
    let step = |sgd: &mut Sgd, x: &Var| sgd.step(&cubic(x).backward().unwrap()).unwrap();
    step(&mut sgd, &x);
    let resumed = Var::from_tensor(&x.copy().unwrap()).unwrap();
    let mut other = Sgd::new(named(&resumed), 0.05, 0.9, 0.01).unwrap();
    for ((_, to), (_, from)) in other.momentum_buffers().iter().zip(sgd.momentum_buffers()) {
        to.set(&from).unwrap();
    }
    for _ in 0..3 {
        step(&mut sgd, &x);
        step(&mut other, &resumed);
    }
    assert_eq!(x.to_vec1::<f64>().unwrap(), resumed.to_vec1::<f64>().unwrap());
}

#[test]
fn other_dtypes_are_refused() {
    let x = Var::from_tensor(&Tensor::ones(2, DType::BF16, &Device::Cpu).unwrap()).unwrap();
    let mut sgd = Sgd::new(named(&x), 0.1, 0.9, 0.0).unwrap();
    let grads = x.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let error = sgd.step(&grads).unwrap_err().to_string();
    assert!(error.contains("gradient descent knows f32 and f64"), "{error}");
}

#[test]
fn gradients_of_another_shape_are_refused() {
    let x = Var::new(&[1f64, 1.0, 1.0], &Device::Cpu).unwrap();
    let mut gradients = candle_core::backprop::GradStore::default();
    gradients.insert(&x, Tensor::new(&[1f64], &Device::Cpu).unwrap());
    let refusal = Sgd::new(named(&x), 0.1, 0.0, 0.0).unwrap().step(&gradients).unwrap_err();
    let text = "the gradient of x has shape [1], but the parameter [3]";
    assert!(refusal.to_string().starts_with(text), "{refusal}");
}

#[test]
fn a_parameter_that_is_listed_twice_moves_once() {
    let x = Var::new(&[1.0f64], &Device::Cpu).unwrap();
    let twice = [named(&x), named(&x)].concat();
    let mut sgd = Sgd::new(twice, 0.1, 0.0, 0.0).unwrap();
    sgd.step(&x.sqr().unwrap().backward().unwrap()).unwrap();
    assert_eq!(x.to_vec1::<f64>().unwrap(), [0.8]);
}

#[test]
fn settings_that_are_not_finite_are_refused() {
    let x = Var::new(&[1.0f64], &Device::Cpu).unwrap();
    let refusal = Sgd::new(named(&x), f64::NAN, 0.0, 0.0).unwrap_err().to_string();
    assert!(refusal.starts_with("the learning rate is NaN"), "{refusal}");
}

#[test]
fn no_parameter_moves_where_one_does_not_fit() {
    let [x, y] = [1.0f64, 2.0].map(|x| Var::new(&[x], &Device::Cpu).unwrap());
    let mut gradients = (&*x + &*y).unwrap().sum_all().unwrap().backward().unwrap();
    gradients.insert(&y, Tensor::new(&[1f64, 1.0], &Device::Cpu).unwrap());
    let both = [named(&x), named(&y)].concat();
    Sgd::new(both, 0.1, 0.0, 0.0).unwrap().step(&gradients).unwrap_err();
    assert_eq!(x.to_vec1::<f64>().unwrap(), [1.0]);
}
