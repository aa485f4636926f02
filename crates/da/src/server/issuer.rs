//! What makes certificates, and judges those that come back.

use std::path::Path;
use std::sync::Arc;

use super::{BlockNumber, Certificates};
use crate::certificate::{
    Certificate, CertificateError, Committee, CommitteeError, Operators, Srs, Verifier,
};

pub(super) struct Issuer {
    operators: Operators,
    srs: Arc<Srs>,
    /// Without the setup: a payload comes from our own disk, under its digest.
    verifier: Verifier,
    reference_block: BlockNumber,
}

impl Issuer {
    /// The operators of the server at `folder`.
    pub(super) fn open(folder: &Path, config: &Certificates) -> Result<Self, CommitteeError> {
        let srs = Arc::new(Srs::development(Some(folder)));
        let operators = config.open(folder, &srs)?;
        Ok(Self {
            verifier: Verifier::new(operators.committee().clone()),
            operators,
            srs,
            reference_block: config.reference_block.clone(),
        })
    }

    pub(super) fn committee(&self) -> &Committee {
        self.operators.committee()
    }

    /// A certificate for `payload`, which is stored; `None` while the head of the layer 1 is not
    /// known.
    pub(super) fn certify(&self, payload: &[u8]) -> Option<Result<Certificate, CertificateError>> {
        let block = (self.reference_block)()?;
        Some(self.operators.certify(&self.srs, payload, block))
    }

    pub(super) fn verify(
        &self,
        certificate: &[u8],
        l1_inclusion: Option<u64>,
    ) -> Result<Certificate, CertificateError> {
        self.verifier.verify(certificate, l1_inclusion)
    }
}
