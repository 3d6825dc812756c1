//! Adam against PyTorch's, clipping, schedules, and loops that are interrupted.

use aca_models::Error;
use aca_models::optimizers::{
    Adam, AdamConfig, Resumable, Schedule, Sgd, clip_global_norm, load_state, save_state,
};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::Optimizer;

fn named(x: &Var, y: &Var) -> Vec<(String, Var)> {
    vec![("x".to_owned(), x.clone()), ("y".to_owned(), y.clone())]
}

fn var(x: &[f64]) -> Var {
    Var::new(x, &Device::Cpu).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn cubic(x: &Var) -> GradStore {
    let x = x.as_tensor();
    let loss = ((x.sqr().unwrap() * x).unwrap() - x).unwrap().sum_all().unwrap();
    loss.backward().unwrap()
}

#[test]
fn three_steps_of_adam_and_adamw_are_those_of_pytorch() {
    // PyTorch 2.15: x = torch.tensor([0.5, -1.25, 3.0], dtype=torch.float64, requires_grad=True)
    // opt = torch.optim.Adam([x], lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.01)  # and AdamW
    // for lr in [0.1, 0.1, 0.05]:
    //     opt.param_groups[0]["lr"] = lr
    //     opt.zero_grad(); (x**3 - x).sum().backward(); opt.step()
    // print(x.tolist(), opt.state[x]["exp_avg"].tolist(), opt.state[x]["exp_avg_sq"].tolist())
    let adam: [[f64; 3]; 3] = [
        [0.628595722043764, -1.5000299542867983, 2.7505416408227576],
        [0.010888618415140862, 1.2278335509517704, 6.546925891943011],
        [0.001190231948715579, 0.6089229350802402, 17.55277869006857],
    ];
    let adam_w: [[f64; 3]; 3] = [
        [0.6312925305087328, -1.496720144481981, 2.7432690576204157],
        [0.009937087580757595, 1.2283466521804534, 6.524508075696004],
        [0.0012089817056491312, 0.6092730865469178, 17.441515053584175],
    ];
    for (decoupled, expected) in [(false, adam), (true, adam_w)] {
        let x = var(&[0.5, -1.25, 3.0]);
        let betas = (0.9, 0.99);
        let config = AdamConfig { lr: 0.1, betas, weight_decay: 0.01, decoupled, eps: 1e-8 };
        let mut opt = Adam::new(vec![("x".to_owned(), x.clone())], config).unwrap();
        for lr in [0.1, 0.1, 0.05] {
            opt.config.lr = lr;
            opt.step(&cubic(&x)).unwrap();
        }
        let state = opt.state();
        let names: Vec<_> = state.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x/first", "x/second", "x/steps"]);
        let ours = [x.as_tensor(), state[0].1.as_tensor(), state[1].1.as_tensor()].map(numbers);
        for (ours, theirs) in ours.iter().flatten().zip(expected.iter().flatten()) {
            let bound = 1e-12 * theirs.abs();
            assert!((ours - theirs).abs() <= bound, "{ours}, PyTorch {theirs}, bound {bound:e}");
        }
    }
}

#[test]
fn an_interrupted_loop_goes_on_bit_for_bit() {
    let path = std::env::temp_dir().join(format!("aca-loop-{}.safetensors", std::process::id()));
    fn train(opt: &mut dyn FnMut(&GradStore), x: &Var, y: &Var, steps: usize) {
        for _ in 0..steps {
            let loss = (x.as_tensor() - y.as_tensor().sqr().unwrap()).unwrap();
            let loss = (loss.sqr().unwrap() + x.as_tensor()).unwrap().sum_all().unwrap();
            opt(&loss.backward().unwrap());
        }
    }
    let start = || (var(&[0.5, -1.25]), var(&[1.5, 0.25]));
    let config = AdamConfig { lr: 0.05, ..AdamConfig::adam_w() };
    let (x, y) = start();
    let mut whole = Adam::new(named(&x, &y), config).unwrap();
    train(&mut |grads| whole.step(grads).unwrap(), &x, &y, 20);

    let (u, v) = start();
    let mut first = Adam::new(named(&u, &v), config).unwrap();
    train(&mut |grads| first.step(grads).unwrap(), &u, &v, 12);
    save_state(&path, &named(&u, &v), &first, 12).unwrap();
    let (u, v) = (var(&[0.0; 2]), var(&[0.0; 2]));
    let mut second = Adam::new(named(&u, &v), config).unwrap();
    assert_eq!(load_state(&path, &named(&u, &v), &second).unwrap(), 12);
    train(&mut |grads| second.step(grads).unwrap(), &u, &v, 8);
    assert_eq!((numbers(&u), numbers(&v)), (numbers(&x), numbers(&y)));

    // Another optimizer, other parameters and other files are refused by name, and nothing is set.
    let sgd = Sgd::new(named(&u, &v), 0.1, 0.9, 0.0).unwrap();
    let before = numbers(&u);
    let reason = |outcome: aca_models::Result<usize>| match outcome {
        Err(Error::NoCheckpoint { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(load_state(&path, &named(&u, &v), &sgd)), "it has no optimizer/x");
    let wide = var(&[0.0; 3]);
    let other = Adam::new(named(&wide, &v), config).unwrap();
    let text = reason(load_state(&path, &named(&wide, &v), &other));
    assert_eq!(text, "its parameters/x is f64 [2] where f64 [3] is needed");
    let fewer = Adam::new(named(&u, &v)[..1].to_vec(), config).unwrap();
    let text = reason(load_state(&path, &named(&u, &v)[..1], &fewer));
    assert!(text.ends_with("which is not among those to be set"), "{text}");
    std::fs::write(&path, b"no tensors").unwrap();
    reason(load_state(&path, &named(&u, &v), &second));
    assert_eq!(numbers(&u), before);
    std::fs::remove_file(&path).unwrap();
    let missing = load_state(&path, &named(&u, &v), &second).unwrap_err();
    assert!(matches!(missing, Error::File { action: "read", .. }), "{missing}");
}

#[test]
fn candles_trait_of_optimizers_drives_ours() {
    let x = var(&[2.0]);
    let mut opt = <Adam as Optimizer>::new(vec![x.clone()], AdamConfig::default()).unwrap();
    opt.set_learning_rate(0.5);
    opt.backward_step(&x.sqr().unwrap().sum_all().unwrap()).unwrap();
    assert!((numbers(&x)[0] - 1.5).abs() < 1e-8);
    let mut opt = <Sgd as Optimizer>::new(vec![x.clone()], (0.25, 0.0, 0.0)).unwrap();
    opt.backward_step(&x.sqr().unwrap().sum_all().unwrap()).unwrap();
    assert!((numbers(&x)[0] - 0.75).abs() < 1e-7 && opt.learning_rate() == 0.25);
}

#[test]
fn clipping_scales_all_gradients_by_one_factor() {
    let (x, y) = (var(&[3.0, 0.0]), var(&[4.0]));
    let vars = [x.clone(), y.clone()];
    let grads = || {
        let halves = [&x, &y].map(|var| (var.sqr().unwrap().sum_all().unwrap() * 0.5).unwrap());
        let [a, b] = halves;
        (a + b).unwrap().backward().unwrap()
    };
    let mut store = grads();
    assert_eq!(clip_global_norm(&mut store, &vars, 10.0).unwrap(), 5.0);
    assert_eq!(numbers(store.get(&x).unwrap()), [3.0, 0.0]);
    assert_eq!(clip_global_norm(&mut store, &vars, 1.0).unwrap(), 5.0);
    let clipped = [numbers(store.get(&x).unwrap()), numbers(store.get(&y).unwrap())].concat();
    for (ours, expected) in clipped.iter().zip([0.6, 0.0, 0.8]) {
        assert!((ours - expected).abs() < 1e-15, "{clipped:?}");
    }
    y.set(&Tensor::new(&[f64::INFINITY], &Device::Cpu).unwrap()).unwrap();
    let error = clip_global_norm(&mut grads(), &vars, 1.0).unwrap_err().to_string();
    assert!(error.contains("the norm of the gradients is inf"), "{error}");
    let error = clip_global_norm(&mut grads(), &vars, f64::NAN).unwrap_err().to_string();
    assert!(error.contains("give a number above 0"), "{error}");
}

#[test]
fn learning_rates_follow_their_schedules() {
    let rate = |schedule: &Schedule, step| schedule.learning_rate(0.4, step, 10, 4);
    assert_eq!(rate(&Schedule::Constant, 39), 0.4);
    let steps = Schedule::Steps(vec![(1, 0.5), (3, 0.1)]);
    let found = [9, 10, 29, 30].map(|step| rate(&steps, step));
    assert_eq!(found, [0.4, 0.2, 0.2, 0.4 * (0.5 * 0.1)]);
    let cosine = Schedule::Cosine { warmup: 0.25 };
    assert!((rate(&cosine, 4) - 0.4 * 4.5 / 10.0).abs() < 1e-15);
    // Halfway down: 0.25 + 0.375 of 40 steps are 25.
    let around = 0.5 * (rate(&cosine, 24) + rate(&cosine, 25));
    assert!((around - 0.2).abs() < 1e-12, "{around}");
    assert!(rate(&cosine, 39) < 1e-3 && rate(&cosine, 400) < 1e-15);
}

#[test]
fn settings_out_of_range_and_foreign_gradients_are_refused_before_anything_moves() {
    let (x, y) = (var(&[1.0]), var(&[2.0]));
    for config in [
        AdamConfig { lr: f64::NAN, ..AdamConfig::default() },
        AdamConfig { betas: (1.0, 0.9), ..AdamConfig::default() },
        AdamConfig { betas: (0.9, -0.1), ..AdamConfig::default() },
    ] {
        assert!(Adam::new(named(&x, &y), config).is_err(), "{config:?}");
    }
    let mut adam = Adam::new(named(&x, &y), AdamConfig::default()).unwrap();
    let mut grads = GradStore::default();
    grads.insert(&x, Tensor::new(&[1.0f64], &Device::Cpu).unwrap());
    grads.insert(&y, Tensor::new(&[1.0f64, 1.0], &Device::Cpu).unwrap());
    let error = adam.step(&grads).unwrap_err().to_string();
    assert!(error.starts_with("the gradient of y has shape [2]"), "{error}");
    assert_eq!(numbers(&x), [1.0]);
}
