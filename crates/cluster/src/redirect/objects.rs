//! The names, in the cluster, of all that redirecting a Service writes.

/// The Service's annotation with the intercepts that users claim, a JSON list of
/// [`Intercept`](super::Intercept).
///
/// Written with the user's credentials: who may patch the Service may intercept it.
pub const INTERCEPTS: &str = "kdev.dev/intercepts";

/// The annotation with what restoring needs, the JSON of [`Original`](super::Original).
///
/// On the Service it is written in the patch that clears the selector, and it goes last. Own and
/// borrowed slices carry a copy, so that a selector outlives the loss of the Service's annotations.
pub const ORIGINAL: &str = "kdev.dev/original";

/// The label of a Service that was made for an intercept, with the id of the claim on its first port. The claims on
/// further ports have the same id, with a dot and a number behind it.
pub const PREVIEW: &str = "kdev.dev/preview";

/// The slices' label with the controller that a slice belongs to.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`] on own slices.
pub const MANAGED_BY: &str = "kdev.dev";

/// The slices' label with their Service's name.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The label with the namespace of the traffic manager that wrote a slice, or serves what is marked with it.
pub const MANAGER_LABEL: &str = "kdev.dev/manager";

/// The label that keeps the mirroring controller from turning an Endpoints object into slices.
pub const SKIP_MIRROR_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";

/// The controller that writes the slices of a Service with a selector.
pub const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// The controller that turns the Endpoints of a Service without a selector into slices.
pub const MIRRORING_CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";

/// Who owns the fields that are written, in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "kdev";

/// How many endpoints one own slice holds at most. The API server takes 1,000; the cluster's own
/// controller stops at 100 too, so that one pod's change sends little to every node.
pub const MAX_ENDPOINTS: usize = 100;

/// Returns the label selector of a Service's slices, whoever wrote them.
pub fn slices_of(service: &str) -> String {
    format!("{SERVICE_NAME_LABEL}={service}")
}

/// Returns the label selector of the slices that the manager in `namespace` wrote, the cluster's own
/// that it borrowed included.
pub fn slices_by(namespace: &str) -> String {
    format!("{SERVICE_NAME_LABEL},{MANAGER_LABEL}={namespace}")
}
