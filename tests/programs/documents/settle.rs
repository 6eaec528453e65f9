use smtp_auth::{
    Secret,
    sasl::{Query, ScramHash},
};

struct Db;

impl Db {
    async fn verify(&self, name: &str, password: &Secret) -> Result<bool, String> {
        tokio::task::yield_now().await;
        Ok(name == "tim" && password.expose() == "tanstaaftanstaaf")
    }

    async fn scram_keys_of(&self, name: &str) -> Result<Option<ScramKeys>, String> {
        tokio::task::yield_now().await;
        let keys = || ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096);
        Ok(if name == "tim" { keys() } else { None })
    }
}

pub(crate) async fn answer(query: Query<'_>) {
    query.answer_with_async(&Db).await;
}
