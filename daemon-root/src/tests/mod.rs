//! Shards and carriers between a real device and a far end in another network namespace.

mod carriers;
mod far_end;
mod machine;
mod shards;
