//! A setting: what a tenant has decided while the server runs, and wants to find again.

use kernel::id::TenantId;
use kernel::time::Timestamp;
use serde_json::Value;

/// The store does not know what a setting means; its name says who does.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub tenant: TenantId,
    /// Unique within the tenant.
    pub name: String,
    pub body: Value,
    pub saved_at: Timestamp,
}
