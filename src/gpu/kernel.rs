//! Declaration of a kernel, linking of its WGSL parts, and compilation to a pipeline.

use super::caps::Caps;

/// A WGSL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShaderFile {
    /// Its path below `shaders/`.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// A [`ShaderFile`] below `shaders/`, compiled in.
macro_rules! wgsl {
    ($file:literal) => {
        $crate::gpu::ShaderFile {
            file: $file,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file)),
        }
    };
}
pub(crate) use wgsl;

/// One part of a kernel's module: a file, or one of two by what the adapter can do.
#[derive(Debug, Clone, Copy)]
pub enum ShaderPart {
    /// Always this file.
    File(ShaderFile),
    /// Two files with the same functions: with and without subgroup operations.
    Subgroups {
        /// If the adapter has them.
        with: ShaderFile,
        /// If it has not.
        without: ShaderFile,
    },
    /// Two files with the same functions: for CPUs and for GPUs.
    Cpu {
        /// If the adapter is one.
        with: ShaderFile,
        /// If it is not.
        without: ShaderFile,
    },
    /// Two files with the same functions: for CPUs with 64-bit integers and for all others.
    Longs {
        /// If the adapter is one.
        with: ShaderFile,
        /// If it is not.
        without: ShaderFile,
    },
}

/// A Rust struct as its WGSL counterpart must be laid out. `params!` makes it, and tests/shaders.rs compares both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StructLayout {
    /// Fields in order, each with its offset in bytes.
    pub fields: &'static [(&'static str, usize)],
    /// Size in bytes.
    pub size: usize,
}

/// How a kernel uses a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A uniform that holds this struct.
    Uniform(StructLayout),
    /// Storage that is only read.
    Read,
    /// Storage that is written, or read and written.
    Write,
}

/// One binding of a kernel: its number is its index in the list.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// The variable's name in the shader.
    pub name: &'static str,
    /// How the kernel uses it.
    pub access: Access,
    /// The struct that a storage array holds; `None`: it holds scalars, vectors or atomics.
    pub element: Option<StructLayout>,
}

impl Binding {
    /// Storage that is only read.
    pub const fn read(name: &'static str) -> Self {
        Binding { name, access: Access::Read, element: None }
    }

    /// The same, as an array of a struct.
    pub const fn of(self, element: StructLayout) -> Self {
        Binding { element: Some(element), ..self }
    }

    /// Storage that is written, or read and written.
    pub const fn write(name: &'static str) -> Self {
        Binding { name, access: Access::Write, element: None }
    }
}

/// Declares a struct that host and kernels share, with its layout, which a test compares with the shader's.
macro_rules! params {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type),+ }

        impl $name {
            /// The layout that the shader's struct must have.
            pub const LAYOUT: $crate::gpu::StructLayout = $crate::gpu::StructLayout {
                fields: &[$((stringify!($field), std::mem::offset_of!($name, $field))),+],
                size: size_of::<$name>(),
            };

            /// A uniform that holds this struct.
            #[allow(dead_code, reason = "a struct is a uniform or an element of an array")]
            pub const fn binding(name: &'static str) -> $crate::gpu::Binding {
                $crate::gpu::Binding { name, access: $crate::gpu::Access::Uniform(Self::LAYOUT), element: None }
            }
        }
    };
}
pub(crate) use params;

/// A kernel, fully declared. It agrees with its WGSL, or `tests/shaders.rs` fails.
#[derive(Debug, Clone)]
pub struct KernelDef {
    /// Its name and label, for profiles and `--only`.
    pub name: &'static str,
    /// The entry point.
    pub entry: &'static str,
    /// The parts of its module, in order.
    pub parts: Vec<ShaderPart>,
    /// Group 0.
    pub bindings: Vec<Binding>,
    /// Group 1: the weights, if the kernel has any.
    pub weights: Vec<Binding>,
    /// Constants that the module is linked with: sizes of arrays in registers.
    pub consts: Vec<(&'static str, u32)>,
    /// Values of the module's `override`s.
    pub overrides: Vec<(&'static str, u32)>,
    /// It uses cooperative matrices of f16: [`link`] enables both extensions.
    pub coop: bool,
}

impl KernelDef {
    /// A kernel without weights, constants or overrides.
    pub fn new(name: &'static str, parts: Vec<ShaderPart>, bindings: Vec<Binding>) -> Self {
        KernelDef {
            name,
            entry: name,
            parts,
            bindings,
            weights: vec![],
            consts: vec![],
            overrides: vec![],
            coop: false,
        }
    }

    /// Sets the constants.
    pub fn consts(mut self, consts: &[(&'static str, u32)]) -> Self {
        self.consts = consts.to_vec();
        self
    }

    /// Sets values of overrides.
    pub fn overrides(mut self, overrides: &[(&'static str, u32)]) -> Self {
        self.overrides = overrides.to_vec();
        self
    }

    /// Enables cooperative matrices of f16.
    pub fn coop(mut self) -> Self {
        self.coop = true;
        self
    }
}

/// A kernel's linked module.
#[derive(Debug, Clone)]
pub struct Linked {
    /// The module's text.
    pub wgsl: String,
    /// Each part's file and the line of the module (from 1) where it begins.
    pub map: Vec<(&'static str, usize)>,
}

impl Linked {
    /// The file and its line for a line of the module.
    pub fn locate(&self, line: usize) -> (&'static str, usize) {
        let found = self.map.iter().rev().find(|(_, first)| *first <= line);
        found.map_or(("constants", line), |(file, first)| (file, line - first + 1))
    }

    /// A compiler's message about the module, with files and their lines instead of the module's lines, in each `wgsl:LINE:COLUMN` and
    /// before each quoted line.
    pub fn located(&self, message: &str) -> String {
        let lines = message.lines().map(|line| {
            let number = line.trim_start();
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            if let (Ok(quoted), true) = (number[..digits].parse(), number[digits..].starts_with(" │")) {
                let own = self.locate(quoted).1.to_string();
                return format!("{own:>0$}{1}", line.len() - number.len() + digits, &number[digits..]);
            }
            let Some((before, place)) = line.split_once("wgsl:") else { return line.to_owned() };
            let digits = place.bytes().take_while(u8::is_ascii_digit).count();
            match place[..digits].parse() {
                Ok(number) => {
                    let (file, own) = self.locate(number);
                    format!("{before}{file}:{own}{}", &place[digits..])
                }
                Err(_) => line.to_owned(),
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Links a kernel's module: the extensions it enables, its constants, then its parts in order, each from the shader folder if that has
/// it.
pub fn link(def: &KernelDef, caps: &Caps) -> Linked {
    let mut wgsl = String::new();
    if def.coop {
        wgsl += "enable wgpu_cooperative_matrix;\nenable f16;\n";
    }
    // Lanes of every subgroup, or 0 if the driver runs several sizes or none; and of the smallest.
    wgsl += &format!("const SUBGROUP_LANES: u32 = {}u;\n", caps.fixed_subgroup().unwrap_or(0));
    wgsl += &format!("const SMALLEST_SUBGROUP: u32 = {}u;\n", caps.subgroup_min.max(1));
    for (name, value) in &def.consts {
        wgsl += &format!("const {name}: u32 = {value}u;\n");
    }
    let mut map = Vec::new();
    for part in &def.parts {
        let source = match part {
            ShaderPart::File(source) => source,
            ShaderPart::Subgroups { with, .. } if caps.subgroups => with,
            ShaderPart::Cpu { with, .. } if caps.cpu => with,
            ShaderPart::Longs { with, .. } if caps.cpu && caps.int64 => with,
            ShaderPart::Subgroups { without, .. }
            | ShaderPart::Cpu { without, .. }
            | ShaderPart::Longs { without, .. } => without,
        };
        map.push((source.file, wgsl.lines().count() + 1));
        let of_folder = caps.shaders.as_ref().and_then(|folder| folder.text(source.file));
        wgsl += of_folder.unwrap_or(source.text);
        wgsl += "\n";
    }
    Linked { wgsl, map }
}

/// A kernel compiled for a device.
pub struct Kernel {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layouts: Vec<wgpu::BindGroupLayout>,
}

pub(super) fn build(
    device: &wgpu::Device,
    def: &KernelDef,
    linked: &Linked,
    checked: bool,
    cache: Option<&wgpu::PipelineCache>,
) -> Kernel {
    let layout = |bindings: &[Binding]| {
        let entries: Vec<_> = bindings
            .iter()
            .enumerate()
            .map(|(i, binding)| wgpu::BindGroupLayoutEntry {
                binding: u32::try_from(i).expect("a kernel has a few bindings"),
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match binding.access {
                        Access::Uniform(..) => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(def.name), entries: &entries })
    };
    let mut layouts = vec![layout(&def.bindings)];
    if !def.weights.is_empty() {
        layouts.push(layout(&def.weights));
    }
    let groups: Vec<_> = layouts.iter().map(Some).collect();
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(def.name),
        source: wgpu::ShaderSource::Wgsl(linked.wgsl.as_str().into()),
    };
    let module = if checked {
        device.create_shader_module(descriptor)
    } else {
        let checks = wgpu::ShaderRuntimeChecks {
            bounds_checks: false,
            force_loop_bounding: false,
            int_div_checks: false,
            ..wgpu::ShaderRuntimeChecks::checked()
        };
        // SAFETY: the shaders are part of this crate, or of a folder that the user of a development build vouches for, as for a change
        // of the source. Every index is in range by construction or guarded, every loop ends and no divisor is zero; the tests run
        // every kernel both ways, with guard words around its outputs.
        unsafe { device.create_shader_module_trusted(descriptor, checks) }
    };
    let constants: Vec<_> = def.overrides.iter().map(|(name, value)| (*name, f64::from(*value))).collect();
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(def.name),
        layout: Some(&device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(def.name),
            bind_group_layouts: &groups,
            immediate_size: 0,
        })),
        module: &module,
        entry_point: Some(def.entry),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &constants,
            zero_initialize_workgroup_memory: checked,
        },
        cache,
    });
    Kernel { pipeline, layouts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compilers_message_names_the_file_and_its_line() {
        let linked = Linked { wgsl: String::new(), map: vec![("lib/a.wgsl", 4), ("b.wgsl", 10)] };
        let message = "Shader 'x' parsing error: expected `;`\n   ┌─ wgsl:12:5\n   │\n11 │ fn f() {\n12 │   let x = ;\n   │           ^\n";
        let located = linked.located(message);
        assert!(located.contains("┌─ b.wgsl:3:5"), "{located}");
        assert!(located.contains("\n 2 │ fn f() {\n 3 │   let x = ;\n"), "{located}");
        assert!(linked.located("at wgsl:4:1 and on").contains("at lib/a.wgsl:1:1 and on"));
        assert!(linked.located("at wgsl:2:1").contains("at constants:2:1"));
        for plain in ["12 things", "wgsl: bad", "a │ b", ""] {
            assert_eq!(linked.located(plain), plain);
        }
    }
}
