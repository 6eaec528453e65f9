//! PBKDF2 as work that the application runs.

use alloc::string::String;

use crate::{
    sasl::{SaltedPassword, ScramHash},
    secret::{Secret, SecretBytes},
};

/// The password must be salted with PBKDF2: some milliseconds of work at 4,096 iterations. The step **stays pending
/// until it is answered** with [`run`](Self::run) or [`answer`](Self::answer).
///
/// In async code, run the [`job`](Self::job) on another thread, so that it does not block a runtime such as tokio.
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

    /// Does the work now, on this thread, and answers with the result.
    pub fn run(&mut self) {
        self.answer = Some(self.job.clone().run());
    }

    /// Returns the work as a separate value, to run on another thread.
    pub fn job(&self) -> DeriveJob {
        self.job.clone()
    }

    /// Returns the result, once it is there. Keep it and pass it to
    /// [`Credentials::salted`](super::Credentials::salted) the next time.
    pub fn salted(&self) -> Option<&SaltedPassword> {
        self.answer.as_ref()
    }

    /// Answers with the result of the job. The result of another job, such as one that arrives too late, is ignored.
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

/// The work of a [`Derive`], which can be moved to another thread.
#[derive(Clone, Debug)]
pub struct DeriveJob {
    hash: ScramHash,
    password: Secret,
    salt: SecretBytes,
    iterations: u32,
}

impl DeriveJob {
    /// Does the work and returns the result, to be passed to [`Derive::answer`].
    pub fn run(self) -> SaltedPassword {
        SaltedPassword::derive(self.hash, self.password, self.salt.as_slice(), self.iterations)
    }
}
