//! Checkpoints of PyTorch, written by `tests/fixtures/checkpoints.py`.

use std::fs;
use std::path::{Path, PathBuf};

use aca_core::Solver;
use aca_models::Error;
use aca_models::networks::{LoadReport, Mode, Network, NetworkName, NetworkSpec, OdeOptions};
use aca_tableau::HEUN_EULER;
use candle_core::{DType, Device, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The network that the fixtures were saved from: two Heun steps per block.
fn network(dtype: DType) -> Network {
    let ode = OdeOptions { solver: Solver::fixed_count(HEUN_EULER, 2), ..OdeOptions::digits() };
    Network::new(&NetworkSpec { dtype, ..NetworkSpec::of(NetworkName::Digits) }, &ode).unwrap()
}

fn values(network: &Network) -> Vec<(String, Vec<f64>)> {
    let all = network.parameters().into_iter().chain(network.statistics());
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    all.map(|(name, var)| (name, flat(&var))).collect()
}

fn refusal(path: &Path) -> Error {
    let network = network(DType::F64);
    let before = values(&network);
    let error = network.load_pth(path).unwrap_err();
    assert_eq!(values(&network), before, "{error}: but something was set");
    error
}

#[test]
fn logits_of_a_loaded_network_are_those_of_pytorch() {
    let network = network(DType::F64);
    let report = network.load_pth(fixture("digits.pth")).unwrap();
    assert_eq!(report.loaded.len(), network.parameters().len() + network.statistics().len());
    assert!(report.missing.is_empty() && report.extra.is_empty(), "{report:?}");
    // Printed by checkpoints.py, which has the network and its images.
    let expected = [
        [0.6102809470236435, 0.1737379785967999, 0.0016539605834034465, -0.05142720082293934],
        [0.609903483264657, 0.14877376134461545, 0.004238183861852457, -0.040619389951733566],
        [0.6055487495627622, 0.16152717842757955, 0.004054479197067473, -0.031787060164615584],
    ];
    let images = Tensor::arange(0f64, 192.0, &Device::Cpu).unwrap().sin().unwrap();
    let images = images.reshape((3, 1, 8, 8)).unwrap();
    let logits = network.forward(&images, Mode::Eval).unwrap().to_vec2::<f64>().unwrap();
    for (ours, theirs) in logits.iter().zip(&expected) {
        for (ours, theirs) in ours.iter().zip(theirs) {
            let off = f64::abs(ours - theirs);
            assert!(off <= 1e-12, "{ours}, PyTorch {theirs}, bound 1e-12");
        }
    }
}

#[test]
fn a_nested_state_dict_of_data_parallel_is_found_and_its_gaps_are_listed() {
    let network = network(DType::F64);
    let before = values(&network);
    let report = network.load_pth(fixture("parallel.pth")).unwrap();
    let first = ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"];
    assert_eq!(report.loaded, first);
    assert_eq!(report.extra, ["module.classifier.weight"]);
    let all: Vec<_> = before.iter().map(|(name, _)| name.clone()).collect();
    let rest: Vec<_> = all.into_iter().filter(|name| !first.contains(&&**name)).collect();
    assert_eq!(report.missing, rest);
    for ((name, now), (_, before)) in values(&network).iter().zip(&before) {
        assert_eq!(now != before, first.contains(&&**name), "{name}");
    }
}

#[test]
fn names_of_torchvision_are_understood() {
    let ode = OdeOptions::cifar();
    let network = Network::new(&NetworkSpec::of(NetworkName::ResNet18), &ode).unwrap();
    let report = network.load_pth(fixture("torchvision.pth")).unwrap();
    assert_eq!(report.loaded, ["layer2.0.shortcut.1.bias", "linear.bias"]);
    assert!(report.extra.is_empty(), "{report:?}");
}

/// What ResNet18 loads of a file, and its bias of the last layer then.
fn resnet(name: &str) -> Result<(LoadReport, Vec<f64>), Error> {
    let spec = NetworkSpec { dtype: DType::F64, ..NetworkSpec::of(NetworkName::ResNet18) };
    let network = Network::new(&spec, &OdeOptions::cifar()).unwrap();
    let report = network.load_pth(fixture(name))?;
    let bias = values(&network).into_iter().find(|(name, _)| name == "linear.bias").unwrap().1;
    Ok((report, bias))
}

#[test]
fn of_two_names_of_one_tensor_ours_counts_and_the_other_is_listed() {
    for _ in 0..4 {
        let (report, bias) = resnet("twice.pth").unwrap();
        assert_eq!(
            (report.loaded, report.extra),
            (vec!["linear.bias".into()], vec!["fc.bias".into()])
        );
        assert_eq!(bias, [1.0; 10]);
    }
}

#[test]
fn a_tensor_beside_the_state_dict_does_not_hide_it() {
    let (report, bias) = resnet("best.pth").unwrap();
    assert_eq!((report.loaded, bias), (vec!["linear.bias".to_owned()], vec![1.0; 10]));
}

#[test]
fn files_that_cannot_be_read_say_what_helps() {
    let error = resnet("turned.pth").unwrap_err().to_string();
    assert!(error.contains("v.contiguous()"), "{error}");
    let error = resnet("big.pth").unwrap_err().to_string();
    assert!(error.contains("its numbers are big-endian"), "{error}");
}

#[test]
fn a_checkpoint_is_cast_to_the_dtype_of_the_network() {
    let network = network(DType::F32);
    network.load_pth(fixture("digits.pth")).unwrap();
    assert!(network.parameters().iter().all(|(_, var)| var.dtype() == DType::F32));
}

#[test]
fn a_missing_file_is_refused() {
    let error = refusal(Path::new("/nowhere/model.pth")).to_string();
    assert!(error.starts_with("cannot open /nowhere/model.pth: "), "{error}");
}

#[test]
fn a_checkpoint_of_another_network_is_refused() {
    let error = refusal(&fixture("foreign.pth"));
    assert!(matches!(&error, Error::ForeignCheckpoint { tensors: 2, .. }), "{error}");
    let end = "belongs to the network, the first is encoder.bias; choose the network that it was \
               saved from";
    assert!(error.to_string().ends_with(end), "{error}");
}

#[test]
fn a_tensor_of_another_shape_is_refused() {
    let error = refusal(&fixture("narrow.pth")).to_string();
    let start =
        "conv1.weight has shape [4, 1, 3, 3] in the checkpoint, but [16, 1, 3, 3] in the network;";
    assert!(error.starts_with(start), "{error}");
}

#[test]
fn a_checkpoint_without_tensors_is_refused() {
    let error = refusal(&fixture("scalars.pth"));
    assert!(matches!(&error, Error::EmptyCheckpoint { .. }), "{error}");
    let end = "holds no tensors; save the state dict, alone or under the key state_dict";
    assert!(error.to_string().ends_with(end), "{error}");
}

#[test]
fn the_form_before_zip_is_refused_with_the_remedy() {
    let error = refusal(&fixture("legacy.pth"));
    assert!(matches!(&error, Error::Checkpoint { .. }), "{error}");
    let end = "save it with torch.save, whose zip form is the default since PyTorch 1.6";
    assert!(error.to_string().ends_with(end), "{error}");
}

#[test]
fn a_malformed_pickle_is_refused() {
    let error = refusal(&fixture("malformed.pth")).to_string();
    assert!(error.contains("its pickle is malformed"), "{error}");
}

#[test]
fn a_damaged_file_is_refused_wherever_it_is_cut_or_changed() {
    let whole = fs::read(fixture("digits.pth")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.pth");
    let zeros = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at..at + 64].fill(0);
        bytes
    };
    let cut = [0, 10, whole.len() / 2, whole.len() - 1].map(|at| whole[..at].to_vec());
    for bytes in cut.into_iter().chain([64, 256, 1024].map(zeros)) {
        fs::write(&path, bytes).unwrap();
        let error = refusal(&path);
        assert!(matches!(&error, Error::Checkpoint { .. }), "{error}");
    }
}
