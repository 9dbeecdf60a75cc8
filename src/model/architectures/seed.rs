//! Seed-OSS: biases of query, key and value. Its norm before the feed-forward network has the name that others give to one behind attention.

use crate::error::Result;
use crate::model::architecture::{Architecture, Metadata};
use crate::model::{Role, RoleInLayer};

const OWN_NAMES: [(&str, &[RoleInLayer]); 1] = [("post_attention_norm.weight", &[Role::FfnNorm])];

pub fn seed_oss(_: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    architecture.halves();
    architecture.own_names = &OWN_NAMES;
    Ok(())
}
