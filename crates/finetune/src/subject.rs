//! What a run trains: an adapter beside a frozen base, or the base itself.

use openledger_model::{Adapter, Base, Example, Loss, Workspace, full_gradients, lora_gradients};

/// A list of tensors in a flat vector: name, offset, shape.
pub(crate) type Layout = Vec<(String, usize, Vec<usize>)>;

/// Parameters, and how a loss depends on them.
pub(crate) trait Subject: Sync {
    /// The tensors of the flat vector.
    fn layout(&self) -> Layout;

    /// The flat vector.
    fn parameters(&self) -> &[f32];

    /// Changes the flat vector.
    fn change(&mut self, change: impl FnOnce(&mut [f32]));

    /// Overwrites `gradients` with those of the mean loss of one example.
    fn gradients(
        &self,
        example: &Example,
        gradients: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<Loss, openledger_model::Error>;

    /// The loss of one example.
    fn loss(
        &self,
        example: &Example,
        workspace: &mut Workspace,
    ) -> Result<Loss, openledger_model::Error>;

    /// The loss of one example before anything was trained.
    fn loss_before(
        &self,
        example: &Example,
        workspace: &mut Workspace,
    ) -> Result<Loss, openledger_model::Error> {
        self.loss(example, workspace)
    }
}

/// An adapter beside its frozen base.
#[derive(Debug)]
pub(crate) struct Adapted<'a> {
    pub(crate) base: &'a Base,
    pub(crate) adapter: Adapter,
}

impl Subject for Adapted<'_> {
    fn layout(&self) -> Layout {
        self.adapter.layout()
    }

    fn parameters(&self) -> &[f32] {
        self.adapter.params()
    }

    fn change(&mut self, change: impl FnOnce(&mut [f32])) {
        change(self.adapter.params_mut());
    }

    fn gradients(
        &self,
        example: &Example,
        gradients: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<Loss, openledger_model::Error> {
        lora_gradients(self.base, &self.adapter, example, gradients, workspace)
    }

    fn loss(
        &self,
        example: &Example,
        workspace: &mut Workspace,
    ) -> Result<Loss, openledger_model::Error> {
        openledger_model::loss(self.base, Some(&self.adapter), example, workspace)
    }

    fn loss_before(
        &self,
        example: &Example,
        workspace: &mut Workspace,
    ) -> Result<Loss, openledger_model::Error> {
        openledger_model::loss(self.base, None, example, workspace)
    }
}

/// All weights of a base.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) base: Base,
}

impl Subject for Whole {
    fn layout(&self) -> Layout {
        self.base.layout()
    }

    fn parameters(&self) -> &[f32] {
        self.base.params()
    }

    fn change(&mut self, change: impl FnOnce(&mut [f32])) {
        self.base.update(change);
    }

    fn gradients(
        &self,
        example: &Example,
        gradients: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<Loss, openledger_model::Error> {
        full_gradients(&self.base, example, gradients, workspace)
    }

    fn loss(
        &self,
        example: &Example,
        workspace: &mut Workspace,
    ) -> Result<Loss, openledger_model::Error> {
        openledger_model::loss(&self.base, None, example, workspace)
    }
}
