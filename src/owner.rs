//! Asking a question of a table as its owner, past privileges and row security of the user, as
//! PostgreSQL itself does for foreign keys. Only for what tells the user nothing of the rows.

use pgrx::pg_sys;

/// Runs `ask` with the rights of `owner`.
///
/// On an error the end of the (sub)transaction puts the user back.
pub fn as_owner<T>(owner: pg_sys::Oid, ask: impl FnOnce() -> T) -> T {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    let past_rls = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS;
    // SAFETY: reads and writes two variables of the backend.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(owner, context | past_rls as i32);
    }
    let answer = ask();
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    answer
}
