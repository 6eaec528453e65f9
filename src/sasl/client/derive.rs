//! The PBKDF2 computation, which the application runs.

use alloc::string::String;

use crate::{
    sasl::{SaltedPassword, ScramHash},
    secret::{Secret, SecretBytes},
};

/// A request to compute the salted password with PBKDF2. The computation takes a few milliseconds at 4,096 iterations. The step
/// **stays pending until you call** [`run`](Self::run) or [`answer`](Self::answer).
///
/// In async code, run the [`job`](Self::job) on another thread, so that the computation does not block a runtime such
/// as tokio.
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

    /// Salts the password immediately, on the current thread, and answers with the result.
    pub fn run(&mut self) {
        self.answer = Some(self.job.clone().run());
    }

    /// Returns the computation as a job that can run on another thread.
    pub fn job(&self) -> DeriveJob {
        self.job.clone()
    }

    /// Returns the salted password if the step has been answered. To avoid the computation in the next authentication,
    /// keep the salted password and pass it to [`Credentials::salted`](super::Credentials::salted).
    pub fn salted(&self) -> Option<&SaltedPassword> {
        self.answer.as_ref()
    }

    /// Answers the step with the result of its [`job`](Self::job). The result of another job, such as an earlier one
    /// that finishes late, is ignored.
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

/// The computation that a [`Derive`] step asks for. It can be moved to another thread.
#[derive(Clone, Debug)]
pub struct DeriveJob {
    hash: ScramHash,
    password: Secret,
    salt: SecretBytes,
    iterations: u32,
}

impl DeriveJob {
    /// Salts the password and returns the result. Pass the result to [`Derive::answer`].
    pub fn run(self) -> SaltedPassword {
        SaltedPassword::derive(self.hash, self.password, self.salt.as_slice(), self.iterations)
    }
}
