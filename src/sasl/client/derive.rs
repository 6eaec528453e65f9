//! PBKDF2, as a debt of the host's.

use alloc::string::String;

use crate::{
    sasl::{SaltedPassword, ScramHash},
    secret::{Secret, SecretBytes},
};

/// The password is to be salted: PBKDF2, some milliseconds of work at 4,096 iterations. **This
/// stands until it is settled** by [`run`](Self::run) or [`answer`](Self::answer).
#[derive(Debug)]
pub struct Derive {
    job: DeriveJob,
    pub(super) answer: Option<SaltedPassword>,
}

impl Derive {
    pub(in crate::sasl) fn new(
        hash: ScramHash,
        password: String,
        salt: SecretBytes,
        iterations: u32,
    ) -> Self {
        let job = DeriveJob { hash, password: Secret::new(password), salt, iterations };
        Self { job, answer: None }
    }

    /// Does the work here and now.
    pub fn run(&mut self) {
        self.answer = Some(self.job.clone().run());
    }

    /// The work as a value of its own, for another thread.
    pub fn job(&self) -> DeriveJob {
        self.job.clone()
    }

    /// What settles it, to be kept: [`Credentials::salted`](super::Credentials::salted) takes it the
    /// next time.
    pub fn salted(&self) -> Option<&SaltedPassword> {
        self.answer.as_ref()
    }

    /// Settles it with what the job gave. Another job's result, which comes late, changes nothing.
    pub fn answer(&mut self, salted: SaltedPassword) {
        if self.fits(&salted) {
            self.answer = Some(salted);
        }
    }

    pub(in crate::sasl) fn fits(&self, salted: &SaltedPassword) -> bool {
        let DeriveJob { hash, password, salt, iterations } = &self.job;
        salted.is_of(*hash, password, salt.as_slice(), *iterations)
    }
}

/// The work of a [`Derive`].
#[derive(Clone, Debug)]
pub struct DeriveJob {
    hash: ScramHash,
    password: Secret,
    salt: SecretBytes,
    iterations: u32,
}

impl DeriveJob {
    /// Does it.
    pub fn run(self) -> SaltedPassword {
        SaltedPassword::derive(self.hash, self.password, self.salt.as_slice(), self.iterations)
    }
}
