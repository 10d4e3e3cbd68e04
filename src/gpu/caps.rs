//! What this adapter can do, and the switches that restrict it.

use super::folder::ShaderFolder;
use super::limits::{Limit, limits_of};
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// The environment switches, each with its meaning; `peregrine devices` lists them.
pub const SWITCHES: &[(&str, &str)] = &[
    ("PEREGRINE_ADAPTER", "adapter to use, by index or by a part of its name"),
    ("PEREGRINE_DISABLE", "features to disable, separated by commas: subgroups, f16, timestamps, coop"),
    ("PEREGRINE_COOP_SIZE", "8 or 16: size of cooperative matrices, even if the adapter does not list it; for tests"),
    ("PEREGRINE_BINDING_LIMIT", "largest binding in bytes; larger weights are split into shards"),
    (
        "PEREGRINE_GROUPS",
        "workgroups that keep the adapter busy; long products of prompts that have fewer are cut along k",
    ),
    ("PEREGRINE_CHECKED", "1: shaders check every index and loop; 0: no checks, as in release builds"),
    (
        "PEREGRINE_SHADERS",
        "folder of shaders that replace those compiled in; debug builds and --features shader-folder",
    ),
    ("PEREGRINE_CACHE", "folder for compiled pipelines and tuning; empty: none"),
    ("PEREGRINE_FIRST_USE", "0: use kernels without checking them before their first use on a driver"),
    ("PEREGRINE_TIMEOUT", "seconds to wait for a submission"),
];

/// Values of the environment switches.
#[derive(Debug, Clone, Default)]
pub struct Switches {
    /// `PEREGRINE_ADAPTER`.
    pub adapter: Option<String>,
    /// `PEREGRINE_DISABLE` names `subgroups`.
    pub without_subgroups: bool,
    /// `PEREGRINE_DISABLE` names `f16`.
    pub without_f16: bool,
    /// `PEREGRINE_DISABLE` names `timestamps`.
    pub without_timestamps: bool,
    /// `PEREGRINE_DISABLE` names `coop`.
    pub without_coop: bool,
    /// `PEREGRINE_COOP_SIZE`.
    pub coop_size: Option<u32>,
    /// `PEREGRINE_BINDING_LIMIT`, in bytes.
    pub binding_limit: Option<u64>,
    /// `PEREGRINE_GROUPS`.
    pub busy_groups: Option<u32>,
    /// `PEREGRINE_CHECKED`.
    pub checked: Option<bool>,
    /// `PEREGRINE_FIRST_USE`.
    pub first_use: Option<bool>,
    /// `PEREGRINE_TIMEOUT`, in seconds.
    pub timeout: Option<u64>,
    /// `PEREGRINE_SHADERS`; a device is only opened with it where [`READS_SHADERS`](super::READS_SHADERS).
    pub shaders: Option<PathBuf>,
}

impl Switches {
    /// Reads the environment; an invalid value is an error.
    pub fn from_env() -> Result<Self> {
        Self::parse(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
    }

    fn parse(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut switches = Switches { adapter: get("PEREGRINE_ADAPTER"), ..Default::default() };
        for feature in get("PEREGRINE_DISABLE").iter().flat_map(|list| list.split(',')) {
            match feature.trim() {
                "subgroups" => switches.without_subgroups = true,
                "f16" => switches.without_f16 = true,
                "timestamps" => switches.without_timestamps = true,
                "coop" => switches.without_coop = true,
                "" => {}
                other => {
                    return Err(Error::BadSwitch {
                        switch: "PEREGRINE_DISABLE",
                        value: other.to_owned(),
                        problem: "it lists subgroups, f16, timestamps or coop".to_owned(),
                    });
                }
            }
        }
        let flag = |switch: &'static str| match get(switch).as_deref() {
            None => Ok(None),
            Some("1") => Ok(Some(true)),
            Some("0") => Ok(Some(false)),
            Some(value) => {
                let (value, problem) = (value.to_owned(), "it is 1 or 0".to_owned());
                Err(Error::BadSwitch { switch, value, problem })
            }
        };
        switches.checked = flag("PEREGRINE_CHECKED")?;
        switches.first_use = flag("PEREGRINE_FIRST_USE")?;
        let number = |switch: &'static str| match get(switch) {
            None => Ok(None),
            Some(value) => match value.parse::<u64>() {
                Ok(n) if n > 0 => Ok(Some(n)),
                _ => Err(Error::BadSwitch { switch, value, problem: "it is a whole number above 0".to_owned() }),
            },
        };
        switches.shaders = get("PEREGRINE_SHADERS").map(PathBuf::from);
        switches.binding_limit = number("PEREGRINE_BINDING_LIMIT")?;
        switches.timeout = number("PEREGRINE_TIMEOUT")?;
        switches.busy_groups = number("PEREGRINE_GROUPS")?.map(|groups| u32::try_from(groups).unwrap_or(u32::MAX));
        switches.coop_size = match get("PEREGRINE_COOP_SIZE") {
            None => None,
            Some(value) => match value.as_str() {
                "8" => Some(8),
                "16" => Some(16),
                _ => {
                    let problem = "it is 8 or 16".to_owned();
                    return Err(Error::BadSwitch { switch: "PEREGRINE_COOP_SIZE", value, problem });
                }
            },
        };
        Ok(switches)
    }
}

/// Cooperative matrices of f16 with f32 accumulators, as an adapter has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coop {
    /// Rows and columns of a matrix: 8 or 16.
    pub size: u32,
    /// Lanes of a subgroup, which shares a matrix.
    pub lanes: u32,
}

/// What an open adapter can do, after the switches; fixed when the device is opened. Every choice of a kernel variant reads it.
#[derive(Debug, Clone)]
pub struct Caps {
    /// Subgroup operations may be used in kernels.
    pub subgroups: bool,
    /// Smallest subgroup that the driver may run, in lanes.
    pub subgroup_min: u32,
    /// Largest subgroup that the driver may run, in lanes.
    pub subgroup_max: u32,
    /// The shader type f16 exists. Weights in f16 do not need it.
    pub f16: bool,
    /// The shader type u64 exists.
    pub int64: bool,
    /// Timestamp queries exist.
    pub timestamps: bool,
    /// Cooperative matrices, if every subgroup has the same number of lanes. A trial finds out whether they are right and fast.
    pub coop: Option<Coop>,
    /// The adapter is a GPU with dedicated memory.
    pub discrete: bool,
    /// Largest binding of weights or activations, in bytes: the device's limit, or less by a switch.
    pub binding_limit: u64,
    /// The device's largest binding, in bytes.
    pub device_binding_limit: u64,
    /// Bytes of the largest buffer.
    pub buffer_limit: u64,
    /// Most workgroups in one dimension of a dispatch.
    pub max_groups: u32,
    /// Workgroups that keep the adapter busy, by its kind: no driver tells its number of cores. 1 where more do not help.
    pub busy_groups: u32,
    /// Most lanes of a workgroup.
    pub max_lanes: u32,
    /// Most bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Storage bindings start at multiples of this, in bytes.
    pub storage_align: u64,
    /// The limits that kernels depend on, needed and granted.
    pub limits: [Limit; 6],
    /// The adapter is a CPU.
    pub cpu: bool,
    /// Shaders check indices and bound loops, and workgroup memory starts as zeros: slower, but a fault in a kernel is a wrong
    /// value instead of undefined behavior. On in debug builds.
    pub checked: bool,
    /// Kernels are checked before their first use on this driver, where a folder keeps the result.
    pub first_use: bool,
    /// Seconds to wait for a submission.
    pub timeout: u64,
    /// Shaders that replace those compiled in.
    pub shaders: Option<Arc<ShaderFolder>>,
}

/// Features that kernels can use, as far as the adapter has them.
pub(super) fn wanted_features(available: wgpu::Features, switches: &Switches) -> wgpu::Features {
    let mut wanted = wgpu::Features::empty();
    if !switches.without_subgroups {
        wanted |= wgpu::Features::SUBGROUP;
    }
    if !switches.without_f16 {
        wanted |= wgpu::Features::SHADER_F16;
    }
    if !switches.without_timestamps {
        wanted |= wgpu::Features::TIMESTAMP_QUERY;
    }
    wanted |= wgpu::Features::PIPELINE_CACHE | wgpu::Features::SHADER_INT64;
    if !(switches.without_coop || switches.without_subgroups || switches.without_f16) {
        wanted |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    }
    wanted & available
}

/// The token for experimental features, if `wanted` has one.
pub(super) fn experimental(wanted: wgpu::Features) -> wgpu::ExperimentalFeatures {
    if wanted.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        // SAFETY: the risk is a shader with matrices that the adapter lacks. Kernels use the size that it lists, or the one that a
        // switch for tests names; a model uses none before a trial on this adapter has passed.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

/// The larger of the usable cooperative matrix sizes that an adapter lists.
fn coop_size(listed: &[wgpu::CooperativeMatrixProperties]) -> Option<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    [16, 8].into_iter().find(|size| {
        let square = |p: &wgpu::CooperativeMatrixProperties| [p.m_size, p.n_size, p.k_size] == [*size; 3];
        listed.iter().any(|p| square(p) && (p.ab_type, p.cr_type) == (F16, F32) && !p.saturating_accumulation)
    })
}

/// [`Caps::busy_groups`] of a discrete GPU: the largest have over 100 cores, each of which hides the latency of memory behind a few
/// workgroups.
const BUSY_GROUPS: u32 = 512;

impl Caps {
    pub(super) fn of(device: &wgpu::Device, adapter: &wgpu::Adapter, switches: &Switches) -> Self {
        let info = adapter.get_info();
        let discrete = info.device_type == wgpu::DeviceType::DiscreteGpu;
        let features = device.features();
        let limits = device.limits();
        let binding = limits.max_storage_buffer_binding_size;
        let coop_needs =
            wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16;
        let coop_may_be = features.contains(coop_needs)
            && !(switches.without_coop || switches.without_subgroups || switches.without_f16)
            && info.subgroup_min_size == info.subgroup_max_size;
        let coop_size = switches.coop_size.or_else(|| coop_size(&adapter.cooperative_matrix_properties()));
        Caps {
            subgroups: features.contains(wgpu::Features::SUBGROUP) && !switches.without_subgroups,
            subgroup_min: info.subgroup_min_size,
            subgroup_max: info.subgroup_max_size,
            f16: features.contains(wgpu::Features::SHADER_F16) && !switches.without_f16,
            int64: features.contains(wgpu::Features::SHADER_INT64),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY) && !switches.without_timestamps,
            coop: coop_size.filter(|_| coop_may_be).map(|size| Coop { size, lanes: info.subgroup_min_size }),
            discrete,
            binding_limit: switches.binding_limit.map_or(binding, |limit| limit.min(binding)),
            device_binding_limit: binding,
            buffer_limit: limits.max_buffer_size,
            max_groups: limits.max_compute_workgroups_per_dimension,
            busy_groups: switches.busy_groups.unwrap_or(if discrete { BUSY_GROUPS } else { 1 }),
            max_lanes: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            storage_align: limits.min_storage_buffer_offset_alignment.into(),
            limits: limits_of(&limits),
            cpu: info.device_type == wgpu::DeviceType::Cpu,
            checked: switches.checked.unwrap_or(cfg!(debug_assertions)),
            first_use: switches.first_use.unwrap_or(true),
            timeout: switches.timeout.unwrap_or(300),
            shaders: None,
        }
    }

    /// The minimum that WebGPU guarantees, for checks without a device.
    pub fn portable() -> Self {
        Caps {
            subgroups: false,
            subgroup_min: 4,
            subgroup_max: 128,
            f16: false,
            int64: false,
            timestamps: false,
            coop: None,
            discrete: false,
            binding_limit: 128 << 20,
            device_binding_limit: 128 << 20,
            buffer_limit: 256 << 20,
            max_groups: 65535,
            busy_groups: 1,
            max_lanes: 256,
            workgroup_bytes: 16384,
            storage_align: 256,
            limits: limits_of(&wgpu::Limits::default()),
            cpu: true,
            checked: true,
            first_use: false,
            timeout: 300,
            shaders: None,
        }
    }

    /// What it can do, in lines for a report: features, then each limit, needed and granted.
    pub fn described(&self) -> Vec<String> {
        let has = |what: &str, is: bool| format!("{} {what}", if is { "has" } else { "no" });
        let subgroups = match self.subgroups {
            true => format!("subgroups of {} to {} lanes", self.subgroup_min, self.subgroup_max),
            false => "no subgroups".to_owned(),
        };
        let coop = self.coop.map_or("no cooperative matrices".to_owned(), |coop| {
            format!("cooperative matrices of {0}x{0}, f16 to f32", coop.size)
        });
        let features = [
            subgroups,
            has("f16", self.f16),
            has("64-bit integers", self.int64),
            has("timestamps", self.timestamps),
            coop,
        ];
        let mut lines = vec![format!("features: {}", features.join(", "))];
        lines.extend(self.limits.iter().map(Limit::to_string));
        if self.binding_limit < self.device_binding_limit {
            lines.push(format!("bindings are limited to {} bytes by a switch", self.binding_limit));
        }
        lines
    }

    /// Lanes of every subgroup, if the driver runs only one size.
    pub fn fixed_subgroup(&self) -> Option<u32> {
        (self.subgroups && self.subgroup_min == self.subgroup_max).then_some(self.subgroup_min)
    }

    /// Largest weight or activation buffer in bytes: each is bound whole.
    pub fn span_limit(&self) -> u64 {
        self.binding_limit.min(self.buffer_limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_or_refused() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        };
        let s = Switches::parse(env(&[
            ("PEREGRINE_DISABLE", "subgroups, f16"),
            ("PEREGRINE_BINDING_LIMIT", "4096"),
            ("PEREGRINE_GROUPS", "99999999999"),
        ]))
        .unwrap();
        assert!(s.without_subgroups && s.without_f16 && !s.without_timestamps);
        assert_eq!((s.binding_limit, s.busy_groups), (Some(4096), Some(u32::MAX)));
        for bad in [
            [("PEREGRINE_DISABLE", "sugbroups")],
            [("PEREGRINE_BINDING_LIMIT", "big")],
            [("PEREGRINE_TIMEOUT", "0")],
            [("PEREGRINE_CHECKED", "yes")],
            [("PEREGRINE_FIRST_USE", "no")],
            [("PEREGRINE_COOP_SIZE", "32")],
            [("PEREGRINE_GROUPS", "0")],
        ] {
            let e = Switches::parse(|name| bad.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()));
            assert!(matches!(e, Err(Error::BadSwitch { .. })), "{bad:?}");
        }
    }
}
