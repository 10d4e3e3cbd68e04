//! The limits of a device that kernels depend on: what is asked for, and what is needed at least.

/// Most lanes and memory of a workgroup that any kernel variant uses.
const USEFUL_LANES: u32 = 1024;
const USEFUL_WORKGROUP_BYTES: u32 = 48 << 10;

/// Limits to request: the defaults, with bindings, buffers and workgroups as large as the adapter has and kernels use.
pub(super) fn wanted_limits(available: &wgpu::Limits) -> wgpu::Limits {
    let defaults = wgpu::Limits::default();
    let lanes = USEFUL_LANES.min(available.max_compute_invocations_per_workgroup);
    let memory = USEFUL_WORKGROUP_BYTES.min(available.max_compute_workgroup_storage_size);
    wgpu::Limits {
        max_compute_invocations_per_workgroup: lanes.max(defaults.max_compute_invocations_per_workgroup),
        max_compute_workgroup_size_x: lanes.max(defaults.max_compute_workgroup_size_x),
        max_compute_workgroup_storage_size: memory.max(defaults.max_compute_workgroup_storage_size),
        max_storage_buffer_binding_size: available.max_storage_buffer_binding_size,
        max_buffer_size: available.max_buffer_size,
        ..defaults
    }
    .or_worse_values_from(available)
}

/// A limit that kernels depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub what: &'static str,
    /// The least that every kernel runs with.
    pub needed: u64,
    /// What the device has.
    pub granted: u64,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Limit { what, needed, granted } = self;
        write!(f, "{what}: needed {needed}, granted {granted}")
    }
}

/// The limits that kernels depend on.
pub(super) fn limits_of(limits: &wgpu::Limits) -> [Limit; 6] {
    let limit = |what, needed, granted| Limit { what, needed, granted };
    [
        limit("storage buffers a stage", 8, limits.max_storage_buffers_per_shader_stage.into()),
        limit("lanes in a workgroup", 256, limits.max_compute_invocations_per_workgroup.into()),
        limit("bytes of workgroup memory", 16384, limits.max_compute_workgroup_storage_size.into()),
        limit("workgroups in a dimension", 65535, limits.max_compute_workgroups_per_dimension.into()),
        // Larger matrices are cut into shards of this size.
        limit("bytes of a binding", 128 << 20, limits.max_storage_buffer_binding_size),
        limit("bytes of a buffer", 128 << 20, limits.max_buffer_size),
    ]
}

/// Why an adapter cannot run the kernels; `None`: it can.
pub(super) fn unfit(limits: &wgpu::Limits) -> Option<String> {
    let too_small = limits_of(limits).into_iter().find(|limit| limit.granted < limit.needed);
    too_small.map(|Limit { what, needed, granted }| format!("it has {granted} {what}, {needed} are needed"))
}
