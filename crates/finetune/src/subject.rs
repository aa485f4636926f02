//! What a run trains: an adapter beside a frozen base, or the base itself.

use openledger_model::{
    Adapter, Arithmetic, Base, Config, Dropout, Error, Example, Gradients, Loss, Slot, Workspace,
    full_gradients_pack, lora_gradients_pack, loss,
};

/// Where in a run rows are computed: what random draws depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The step, from 1.
    pub(crate) step: u64,
    /// Index of the first row among the step's rows.
    pub(crate) row: u64,
}

/// Parameters, and how a loss depends on them.
pub(crate) trait Subject: Sync {
    /// The mode its numbers are computed in.
    type Arithmetic: Arithmetic;

    /// The tensors of the flat vector.
    fn layout(&self) -> Vec<Slot>;

    /// The flat vector.
    fn parameters(&self) -> &[f32];

    /// Changes the flat vector.
    fn change(&mut self, change: impl FnOnce(&mut [f32]));

    /// Overwrites each of `gradients` with that of the mean loss of one row.
    fn each(
        &self,
        rows: &[&Example],
        place: Place,
        gradients: &mut [&mut [f32]],
        workspace: &mut Workspace,
    ) -> Result<Vec<Loss>, Error>;

    /// Adds to `gradients` that of the sum of all target tokens' losses times `per_target`.
    fn add(
        &self,
        rows: &[&Example],
        place: Place,
        per_target: f32,
        gradients: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<Vec<Loss>, Error>;

    /// The loss of one row.
    fn loss(&self, row: &Example, workspace: &mut Workspace) -> Result<Loss, Error>;

    /// The loss of one row before anything was trained.
    fn loss_before(&self, row: &Example, workspace: &mut Workspace) -> Result<Loss, Error> {
        self.loss(row, workspace)
    }
}

/// An adapter beside its frozen base.
#[derive(Debug)]
pub(crate) struct Adapted<'a, A: Arithmetic> {
    pub(crate) base: &'a Base<A>,
    pub(crate) adapter: Adapter,
    /// Seed of the dropout.
    pub(crate) seed: u64,
}

impl<A: Arithmetic> Adapted<'_, A> {
    fn dropout(&self, place: Place) -> Option<Dropout> {
        let Place { step, row } = place;
        let seed = self.seed;
        Some(Dropout { seed, step, row })
    }
}

impl<A: Arithmetic> Subject for Adapted<'_, A> {
    type Arithmetic = A;

    fn layout(&self) -> Vec<Slot> {
        self.adapter.layout()
    }

    fn parameters(&self) -> &[f32] {
        self.adapter.params()
    }

    fn change(&mut self, change: impl FnOnce(&mut [f32])) {
        change(self.adapter.params_mut());
    }

    fn each(
        &self,
        rows: &[&Example],
        place: Place,
        gradients: &mut [&mut [f32]],
        workspace: &mut Workspace,
    ) -> Result<Vec<Loss>, Error> {
        workspace.dropout = self.dropout(place);
        let each = Gradients::Each(gradients);
        lora_gradients_pack(self.base, &self.adapter, rows, None, each, workspace)
    }

    fn add(
        &self,
        rows: &[&Example],
        place: Place,
        per_target: f32,
        gradients: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<Vec<Loss>, Error> {
        workspace.dropout = self.dropout(place);
        let (sum, factor) = (Gradients::Sum(gradients), Some(per_target));
        lora_gradients_pack(self.base, &self.adapter, rows, factor, sum, workspace)
    }

    fn loss(&self, row: &Example, workspace: &mut Workspace) -> Result<Loss, Error> {
        loss(self.base, Some(&self.adapter), row, workspace)
    }

    fn loss_before(&self, row: &Example, workspace: &mut Workspace) -> Result<Loss, Error> {
        loss(self.base, None, row, workspace)
    }
}

/// All weights of a base: as f32, which the optimizer changes, and in the form that products read.
#[derive(Debug)]
pub(crate) struct Whole<A: Arithmetic> {
    pub(crate) base: Base<A>,
    parameters: Vec<f32>,
}

impl<A: Arithmetic> Whole<A> {
    /// A model of random weights.
    pub(crate) fn start(parameters: Vec<f32>, config: Config) -> Result<Self, Error> {
        let base = Base::from_flat(config, &parameters, A::FINEST)?;
        Ok(Self { base, parameters })
    }

    /// A model as it is stored: in fast arithmetic, weights of bf16 precision.
    pub(crate) fn new(base: Base<A>) -> Self {
        let parameters = base.params();
        Self { base, parameters }
    }
}

impl<A: Arithmetic> Subject for Whole<A> {
    type Arithmetic = A;

    fn layout(&self) -> Vec<Slot> {
        self.base.layout()
    }

    fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    fn change(&mut self, change: impl FnOnce(&mut [f32])) {
        change(&mut self.parameters);
        self.base.assign(&self.parameters);
    }

    /// One row after another: gradients of whole models are too large to hold many of.
    fn each(
        &self,
        rows: &[&Example],
        _: Place,
        gradients: &mut [&mut [f32]],
        workspace: &mut Workspace,
    ) -> Result<Vec<Loss>, Error> {
        let mut losses = Vec::with_capacity(rows.len());
        for (row, gradients) in rows.iter().zip(gradients) {
            gradients.fill(0.0);
            let one = full_gradients_pack(&self.base, &[row], None, gradients, workspace)?;
            losses.extend(one);
        }
        Ok(losses)
    }

    fn add(
        &self,
        rows: &[&Example],
        _: Place,
        per_target: f32,
        gradients: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<Vec<Loss>, Error> {
        full_gradients_pack(&self.base, rows, Some(per_target), gradients, workspace)
    }

    fn loss(&self, row: &Example, workspace: &mut Workspace) -> Result<Loss, Error> {
        loss(&self.base, None, row, workspace)
    }
}
