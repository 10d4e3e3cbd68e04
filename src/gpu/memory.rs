//! Free memory of the device, if the system reports it.

use super::device::Gpu;

/// Memory that is free for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeMemory {
    /// Bytes of the device's largest heap that the driver still grants this process.
    Device(u64),
    /// Bytes of host memory, if the device is a CPU.
    Host(u64),
}

impl FreeMemory {
    /// The bytes.
    pub fn bytes(self) -> u64 {
        match self {
            FreeMemory::Device(bytes) | FreeMemory::Host(bytes) => bytes,
        }
    }
}

impl Gpu {
    /// Memory that is free now; `None` if unknown. wgpu does not report it: Linux does for CPUs, and Vulkan by
    /// [VK_EXT_memory_budget], which most drivers have (wgpu does not enable it with RADV). It is unknown on Metal, DX12 and GL.
    ///
    /// [VK_EXT_memory_budget]: https://registry.khronos.org/vulkan/specs/latest/man/html/VK_EXT_memory_budget.html
    pub fn free_memory(&self) -> Option<FreeMemory> {
        if self.info().cpu { available_on_host().map(FreeMemory::Host) } else { self.budget().map(FreeMemory::Device) }
    }

    #[cfg(any(windows, target_os = "linux", target_os = "android"))]
    fn budget(&self) -> Option<u64> {
        use ash::vk;
        // SAFETY: the device is only queried, not destroyed.
        let device = unsafe { self.shared.device.as_hal::<wgpu::hal::api::Vulkan>() }?;
        let instance = device.shared_instance();
        let known = device.enabled_device_extensions().contains(&ash::ext::memory_budget::NAME);
        if !known || instance.instance_api_version() < vk::API_VERSION_1_1 {
            return None;
        }
        let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
        let mut properties = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
        // SAFETY: the instance is of Vulkan 1.1, which has this function, and the physical device is of that instance and has
        // the extension whose structure is chained.
        unsafe {
            let physical = device.raw_physical_device();
            instance.raw_instance().get_physical_device_memory_properties2(physical, &mut properties);
        }
        let heaps = properties.memory_properties;
        let of_device = |i: &usize| heaps.memory_heaps[*i].flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
        let largest =
            (0..heaps.memory_heap_count as usize).filter(of_device).max_by_key(|i| heaps.memory_heaps[*i].size)?;
        Some(budget.heap_budget[largest].saturating_sub(budget.heap_usage[largest]))
    }

    #[cfg(not(any(windows, target_os = "linux", target_os = "android")))]
    fn budget(&self) -> Option<u64> {
        None
    }
}

/// Bytes that Linux estimates it can allocate without swapping.
fn available_on_host() -> Option<u64> {
    available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::available;
    use crate::gpu::{AdapterChoice, Gpu};

    #[test]
    fn a_budget_is_plausible_or_not_told() {
        if std::env::var_os("PEREGRINE_NO_GPU").is_some_and(|v| v == "1") {
            return eprintln!("SKIPPED a_budget_is_plausible_or_not_told: PEREGRINE_NO_GPU=1");
        }
        let gpu = Gpu::open(&AdapterChoice::Best).expect("these tests need an adapter: `make setup` installs one");
        // Of a CPU too, where the system is asked in its place.
        let budget = gpu.budget();
        eprintln!("budget of {}: {budget:?}", gpu.info());
        assert!(budget.is_none_or(|bytes| (1 << 20..1 << 44).contains(&bytes)), "{budget:?}");
    }

    #[test]
    fn what_linux_has_available_is_read() {
        let meminfo = "MemTotal:       16000000 kB\nMemFree:   100 kB\nMemAvailable:    2048 kB\nBuffers:  1 kB\n";
        assert_eq!(available(meminfo), Some(2 << 20));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available("MemAvailable: much\n"), None);
    }
}
