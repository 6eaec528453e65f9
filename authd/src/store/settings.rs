//! Secrets that all processes of a fleet share.

use super::{Store, StoreError, get};
use crate::random;

impl Store {
    /// Returns a shared secret of 256 bits, in hexadecimal, and makes it if there is none. Processes that do so at the
    /// same time get the same one.
    pub(crate) async fn secret(&self, name: &str) -> Result<String, StoreError> {
        let select = || sqlx::query("SELECT value FROM setting WHERE name = $1").bind(name);
        let row = match self.within(select().fetch_optional(&self.pool)).await? {
            Some(row) => row,
            None => {
                let own = random::hexadecimal::<32>().ok_or(StoreError::NoRandomNumbers)?;
                let insert = "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
                self.within(sqlx::query(insert).bind(name).bind(own).execute(&self.pool)).await?;
                self.within(select().fetch_one(&self.pool)).await?
            }
        };
        let value: String = get(&row, "value")?;
        let is_secret = value.len() == 64 && value.bytes().all(|own| own.is_ascii_hexdigit());
        if is_secret { Ok(value) } else { Err(StoreError::DamagedSecret(name.into())) }
    }
}
