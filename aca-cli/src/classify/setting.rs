//! What a run of `aca classify` works with: presets, a checkpoint's settings, the user's options.

use std::path::PathBuf;

use aca_core::{Solver, Stepping, TimeSpan, Tolerance};
use aca_models::communicator::Fingerprint;
use aca_models::data::DataSet;
use aca_models::networks::{Network, NetworkSpec, OdeOptions};
use aca_models::training::TrainPlan;
use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::args::{DataArgs, DataChoice, Mode, NetworkChoice, PlanArgs, RanksArgs, SolverArgs};
use crate::method::{check_step, check_tolerances, method};
use crate::report::{Error, Refusal, Result};
use crate::strategy::{self, Strategy};

/// Everything that decides a run; kept in its checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub network: NetworkChoice,
    pub dataset: DataChoice,
    pub data: Option<PathBuf>,
    pub gradient: Strategy,
    /// Checkpoints of `aca-budget`, where they were given.
    #[serde(default)]
    pub checkpoints: Option<u32>,
    /// Whether a block's output is read by the interpolant.
    pub multi_time: bool,
    pub method: String,
    pub h: Option<f64>,
    pub t0: f64,
    pub t1: f64,
    pub rtol: f64,
    pub atol: f64,
    pub max_steps: usize,
    pub plan: TrainPlan,
}

impl Setting {
    /// The preset of a network: its own on digits, the original's recipe elsewhere.
    pub fn preset(network: Option<NetworkChoice>, data: &DataArgs) -> Self {
        let dataset = data.dataset.unwrap_or(match data.data {
            Some(_) => DataChoice::Cifar10,
            None => DataChoice::Digits,
        });
        let own = if dataset == DataChoice::Digits {
            NetworkChoice::Digits
        } else {
            NetworkChoice::Node18
        };
        let network = network.unwrap_or(own);
        let tolerance = if network == NetworkChoice::Digits { 1e-1 } else { 1e-2 };
        let plan = match dataset {
            DataChoice::Digits => TrainPlan::digits(),
            _ => TrainPlan::cifar(),
        };
        Self {
            network,
            dataset,
            data: data.data.clone(),
            gradient: Strategy::Aca,
            checkpoints: None,
            multi_time: false,
            method: "heun_euler".to_owned(),
            h: None,
            t0: 0.0,
            t1: 1.0,
            rtol: tolerance,
            atol: tolerance,
            max_steps: 50_000,
            plan,
        }
    }

    /// The same with what the user gave for the solver.
    ///
    /// # Errors
    /// For numbers that no solve can take, and tolerances of a method that follows none.
    pub fn solved(mut self, args: &SolverArgs) -> Result<Self> {
        if let Some(method) = &args.method {
            self.method.clone_from(method);
            // A step that fits one method says nothing about another.
            self.h = None;
        }
        self.h = args.h.or(self.h);
        self.t0 = args.t0.unwrap_or(self.t0);
        self.t1 = args.t1.unwrap_or(self.t1);
        self.rtol = args.rtol.unwrap_or(self.rtol);
        self.atol = args.atol.unwrap_or(self.atol);
        self.max_steps = args.max_steps.unwrap_or(self.max_steps);
        check_tolerances(&method(&self.method)?, args.rtol, args.atol)?;
        check_step(args.h)?;
        match TimeSpan::new(self.t0, self.t1)? {
            TimeSpan { t0, t1 } if t0 == t1 => Err(Refusal::EmptySpan { t: t0 }.into()),
            _ => Ok(self),
        }
    }

    /// The same with what the user gave for the plan.
    pub fn planned(mut self, args: &PlanArgs) -> Self {
        self.plan.epochs = args.epochs.unwrap_or(self.plan.epochs);
        self.plan.batch_size = args.batch_size.unwrap_or(self.plan.batch_size);
        self.plan.lr = args.lr.unwrap_or(self.plan.lr);
        self
    }

    /// The same with what the user gave for many processes.
    pub fn shared(mut self, args: RanksArgs) -> Self {
        self.plan.scale_lr |= args.scale_lr;
        self.plan.sync_batch_norm |= args.sync_batch_norm;
        self
    }

    /// What must be the same in all processes: the directory of the images need not.
    pub fn fingerprint(&self) -> Fingerprint {
        let text = serde_json::to_string(&Self { data: None, ..self.clone() }).unwrap_or_default();
        Fingerprint::of(text.as_bytes())
    }

    /// The same with the strategy that the user gave.
    ///
    /// MALI has a method of its own, which therefore is the preset with it.
    pub fn differentiated(mut self, gradient: Option<Strategy>, mode: Option<Mode>) -> Self {
        let strategy = mode.map(|mode| match mode {
            Mode::Fast => Strategy::Naive,
            Mode::MemoryEfficient | Mode::MultiTime => Strategy::Aca,
        });
        if let Some(strategy) = gradient.or(strategy) {
            let leapfrog = aca_core::Method::Leapfrog;
            let alf = leapfrog.name();
            match (strategy == Strategy::Mali, self.method == alf) {
                (true, false) => self.method = alf.to_owned(),
                (false, true) => "heun_euler".clone_into(&mut self.method),
                _ => {}
            }
            self.gradient = strategy;
            self.multi_time = mode == Some(Mode::MultiTime);
        }
        self
    }

    /// The same with the checkpoints that the user gave; comes last, when strategy and method are known.
    ///
    /// # Errors
    /// For a strategy that cannot train these networks by this method, or counts no checkpoints.
    pub fn within(mut self, checkpoints: Option<u32>) -> Result<Self> {
        strategy::check(self.gradient, checkpoints, &method(&self.method)?)?;
        self.check_explicit()?;
        if self.gradient == Strategy::NaiveThroughStepSize {
            return Err(Refusal::RunningStatistics.into());
        }
        self.checkpoints = checkpoints.or(self.checkpoints);
        Ok(self)
    }

    /// Refuses implicit methods: the batch norms of a training couple all images of a batch.
    ///
    /// # Errors
    /// [`Refusal::ImplicitTraining`].
    pub fn check_explicit(&self) -> Result<()> {
        match method(&self.method)?.is_implicit() {
            true => Err(Refusal::ImplicitTraining { method: self.method.clone() }.into()),
            false => Ok(()),
        }
    }

    /// The same with images from where the user says.
    pub fn with_data(mut self, args: &DataArgs) -> Self {
        self.dataset = args.dataset.unwrap_or(self.dataset);
        self.data = args.data.clone().or(self.data);
        self
    }

    /// Whether ODE blocks are solved as in `other`.
    pub fn solves_like(&self, other: &Self) -> bool {
        let solver = |setting: &Self| {
            let Setting { method, h, t0, t1, rtol, atol, .. } = setting.clone();
            (method, h, t0, t1, rtol, atol)
        };
        solver(self) == solver(other)
    }

    /// How ODE blocks are solved.
    pub fn ode(&self) -> Result<OdeOptions> {
        let tableau = method(&self.method)?;
        let tolerance = Tolerance { rtol: self.rtol, atol: self.atol };
        let solver = Solver::for_method(tableau, tolerance, self.h)?;
        Ok(OdeOptions {
            solver: Solver { max_steps: self.max_steps, ..solver },
            gradient: self
                .gradient
                .gradient(self.checkpoints.map_or(Strategy::CHECKPOINTS, |count| count as usize)),
            span: (self.t0, self.t1),
            multi_time: self.multi_time,
        })
    }

    /// A network with start parameters.
    pub fn network(&self, data: &DataSet, device: Device) -> Result<Network> {
        let (classes, [channels, ..]) = (data.train.classes(), data.train.shape());
        let spec = NetworkSpec::of(self.network.name());
        let spec = NetworkSpec { classes, channels, device, seed: self.plan.seed, ..spec };
        Ok(Network::new(&spec, &self.ode()?)?)
    }

    /// The fixed step of the method, if it takes one.
    pub fn fixed_step(&self) -> Option<f64> {
        let ode = self.ode().ok()?;
        match ode.solver.stepping {
            Stepping::FixedSize(h) => Some(h),
            _ => None,
        }
    }

    /// Tells of fixed steps after which a state is not finite; other errors are as they were.
    pub fn told(&self, error: Error) -> Error {
        match (error, self.fixed_step()) {
            (Error::Aca(aca_core::Error::NonFinite { t, .. }), Some(h)) => {
                let remedy = format!("give a smaller step, such as --h {}", 0.5 * h);
                Refusal::BlownUp { method: self.method.clone(), h, t, remedy }.into()
            }
            (error, _) => error,
        }
    }
}
