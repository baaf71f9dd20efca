//! From what an issuer says of somebody to what they may do here.

use crate::{
    permission::{Grant, Grants, Permission, Pools},
    subject::Subject,
    token::{Claims, TokenRefusal},
};

/// A claim that a rule may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleClaim {
    /// The object of a user, an application or a managed identity.
    Oid,
    /// The application (`appid` of v1 tokens, `azp` of v2 tokens).
    AppId,
    /// The subject, of any issuer.
    Sub,
    /// One of the groups.
    Groups,
    /// One of the application roles.
    Roles,
    /// The tenant: everybody in it.
    Tid,
}

/// Who has this claim with this value may do this there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRule {
    /// Which claim.
    pub claim: RoleClaim,
    /// Its value, to the letter.
    pub value: String,
    /// What may be done.
    pub permissions: Vec<Permission>,
    /// Where.
    pub pools: Pools,
}

impl RoleRule {
    fn applies(&self, claims: &Claims) -> Result<bool, TokenRefusal> {
        let names: &[&'static str] = match self.claim {
            RoleClaim::Oid => &["oid"],
            RoleClaim::AppId => &["appid", "azp"],
            RoleClaim::Sub => &["sub"],
            RoleClaim::Groups => &["groups"],
            RoleClaim::Roles => &["roles"],
            RoleClaim::Tid => &["tid"],
        };
        for name in names {
            if claims.texts(name)?.contains(&self.value.as_str()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What all rules together give to somebody. No rule, nothing.
pub(crate) fn grants(rules: &[RoleRule], claims: &Claims) -> Result<Grants, TokenRefusal> {
    let mut grants = Grants::default();
    for rule in rules {
        if rule.applies(claims)? {
            let of_rule = rule.permissions.iter().map(|permission| Grant { permission: *permission, pools: rule.pools.clone() });
            grants.0.extend(of_rule);
        }
    }
    Ok(grants)
}

/// Who it is. The object id, where there is one: an application sees another `sub` of the same user than the next.
/// `realm`: of its issuer, within which ids are unique.
pub(crate) fn subject(claims: &Claims, realm: &str) -> Result<Subject, TokenRefusal> {
    let id = claims.text("oid")?.or(claims.text("sub")?).filter(|id| !id.is_empty()).ok_or(TokenRefusal::ClaimMissing("sub"))?;
    Ok(Subject::Principal { tenant: realm.to_owned(), id: id.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::permission::Target;

    fn claims(claims: serde_json::Value) -> Claims {
        Claims(claims.as_object().unwrap().clone())
    }

    fn rule(claim: RoleClaim, value: &str) -> RoleRule {
        RoleRule { claim, value: value.to_owned(), permissions: vec![Permission::Execute], pools: vec!["a".to_owned()].into() }
    }

    #[test]
    fn a_rule_gives_what_it_says_to_who_has_its_claim_and_to_nobody_else() {
        for (claim, holder, stranger) in [
            (RoleClaim::Oid, json!({"oid": "x"}), json!({"oid": "y", "sub": "x", "appid": "x"})),
            (RoleClaim::AppId, json!({"appid": "x"}), json!({"appid": "y", "oid": "x"})),
            (RoleClaim::AppId, json!({"azp": "x"}), json!({"azp": "X"})),
            (RoleClaim::Sub, json!({"sub": "x"}), json!({"oid": "x"})),
            (RoleClaim::Groups, json!({"groups": ["w", "x"]}), json!({"groups": ["w", "xx"], "roles": ["x"]})),
            (RoleClaim::Roles, json!({"roles": ["x"]}), json!({"groups": ["x"]})),
            (RoleClaim::Tid, json!({"tid": "x"}), json!({})),
        ] {
            let rules = [rule(claim, "x")];
            let of_holder = grants(&rules, &claims(holder.clone())).unwrap();
            assert!(of_holder.allow(Permission::Execute, Target::Pool("a")), "{claim:?} {holder}");
            assert!(!of_holder.allow(Permission::Manage, Target::Pool("a")), "{claim:?} {holder}");
            assert!(!of_holder.allow(Permission::Execute, Target::Pool("b")), "{claim:?} {holder}");
            assert_eq!(grants(&rules, &claims(stranger.clone())).unwrap(), Grants::default(), "{claim:?} {stranger}");
        }
    }

    #[test]
    fn rules_add_up() {
        let manager = RoleRule { permissions: vec![Permission::Manage], pools: Pools::All, ..rule(RoleClaim::Groups, "g") };
        let both = grants(&[rule(RoleClaim::Oid, "x"), manager], &claims(json!({"oid": "x", "groups": "g"}))).unwrap();
        assert!(both.allow(Permission::Execute, Target::Pool("a")) && both.allow(Permission::Manage, Target::Server));
        assert!(!both.allow(Permission::Execute, Target::Server));
    }

    #[test]
    fn a_claim_of_the_wrong_type_is_no_absent_claim() {
        for bad in [json!({"groups": 1}), json!({"groups": ["x", 1]}), json!({"groups": {"x": true}})] {
            assert_eq!(grants(&[rule(RoleClaim::Groups, "x")], &claims(bad)), Err(TokenRefusal::ClaimType("groups")));
        }
    }

    #[test]
    fn the_subject_is_the_object_else_the_subject_and_never_nobody() {
        let of = |value| subject(&claims(value), "r").map(|subject| subject.to_string());
        assert_eq!(of(json!({"tid": "t", "iss": "i", "oid": "o", "sub": "s"})), Ok("principal:r:o".to_owned()));
        assert_eq!(of(json!({"iss": "i", "sub": "s"})), Ok("principal:r:s".to_owned()));
        assert_eq!(of(json!({"iss": "i"})), Err(TokenRefusal::ClaimMissing("sub")));
        assert_eq!(of(json!({"iss": "i", "sub": ""})), Err(TokenRefusal::ClaimMissing("sub")));
        assert_eq!(of(json!({"iss": "i", "oid": 1})), Err(TokenRefusal::ClaimType("oid")));
    }
}
