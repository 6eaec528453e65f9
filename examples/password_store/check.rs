//! Argon2 in memory that stays.

use std::cell::RefCell;

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, PasswordHash},
};

/// Whether that is the password. It takes as long and says the same as `Argon2::verify_password`, which
/// asks for its 19 MiB anew each time: an allocator may keep many such pieces for a thread.
pub(crate) fn is_password(password: &[u8], hash: &PasswordHash) -> bool {
    computes(password, hash).unwrap_or_default()
}

/// `None` where the hash is not one of argon2.
fn computes(password: &[u8], hash: &PasswordHash) -> Option<bool> {
    thread_local!(static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) });
    let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = Version::try_from(hash.version?).ok()?;
    let params = Params::try_from(hash).ok()?;
    let (blocks, mut output) = (params.block_count(), vec![0; expected.len()]);
    MEMORY.with_borrow_mut(|memory| {
        memory.resize(memory.len().max(blocks), Block::new());
        let argon2 = Argon2::new(algorithm, version, params);
        argon2.hash_password_into_with_memory(password, salt, &mut output, memory).ok()
    })?;
    // In constant time.
    Some(Output::new(&output).ok()? == *expected)
}

#[test]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
fn says_the_same_as_argon2_does() {
    use argon2::{PasswordHasher, PasswordVerifier};
    for (algorithm, version) in
        [(Algorithm::Argon2id, Version::V0x13), (Algorithm::Argon2i, Version::V0x10)]
    {
        let argon2 = Argon2::new(algorithm, version, Params::new(64, 3, 2, Some(24)).unwrap());
        let hash = argon2.hash_password(b"rosebud").unwrap();
        for password in [&b"rosebud"[..], b"wrong", b""] {
            let expected = Argon2::default().verify_password(password, &hash).is_ok();
            assert_eq!(is_password(password, &hash), expected, "{hash}");
            assert_eq!(expected, password == b"rosebud");
        }
    }
    assert!(!is_password(b"rosebud", &"$scrypt$c29tZXNhbHQ".parse().unwrap()));
}
