//! `explain_api_key` and what its form for tables is made of (`sql/explain.sql`).

use keyhash::explain::{explain, fingerprint, lookalikes, unknown, variants};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};

use crate::settings::max_bcrypt_cost;
use crate::text::{NewText, Text};

#[pg_extern(sql = false)]
fn explain_api_key(key: Option<Text<'_>>, hash: Option<Text<'_>>) -> NewText {
    let sentence = match (key, hash) {
        (None, _) => "No match: no key was presented.".to_owned(),
        (_, None) => "No match: no hash is stored.".to_owned(),
        (Some(key), Some(hash)) => explain(key.as_bytes(), hash.as_bytes(), max_bcrypt_cost()),
    };
    NewText::new(sentence.as_bytes())
}

#[pg_extern(sql = false)]
fn explain_unknown_api_key(key: Text<'_>) -> NewText {
    NewText::new(unknown(key.as_bytes()).as_bytes())
}

#[pg_extern(sql = false)]
fn api_key_fingerprint(key: Text<'_>) -> NewText {
    NewText::new(fingerprint(key.as_bytes()).as_bytes())
}

#[pg_extern(sql = false)]
fn api_key_lookalikes(
    key: Text<'_>,
) -> TableIterator<'static, (name!(stored, NewText), name!(mistake, NewText))> {
    let all = lookalikes(key.as_bytes()).into_iter();
    TableIterator::new(all.map(|found| {
        (NewText::new(found.stored.as_bytes()), NewText::new(found.mistake.as_bytes()))
    }))
}

#[pg_extern(sql = false)]
fn api_key_variants(
    key: Text<'_>,
) -> TableIterator<'static, (name!(variant, NewText), name!(mistake, NewText))> {
    let all = variants(key.as_bytes()).into_iter();
    TableIterator::new(
        all.map(|found| (NewText::new(&found.text), NewText::new(found.mistake.as_bytes()))),
    )
}
