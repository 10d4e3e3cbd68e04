//! Every declaration against its WGSL, without a GPU: bindings, parameters, constants, and translation for every backend.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use peregrine::gpu::{Access, Caps, Coop, KernelDef, Part, link};
use peregrine::kernels;
use std::collections::BTreeSet;

fn declared() -> Vec<(KernelDef, Caps)> {
    let mut all = Vec::new();
    for (subgroups, subgroup_min, subgroup_max, coop) in
        [(false, 4, 128, None), (true, 4, 128, None), (true, 8, 8, Some(8)), (true, 32, 32, Some(16))]
    {
        let coop = coop.map(|size| Coop { size, lanes: subgroup_min });
        // The last is a GPU.
        let cpu = subgroup_min < 32;
        let caps = Caps { cpu, subgroups, subgroup_min, subgroup_max, coop, int64: subgroups, ..Caps::portable() };
        all.extend(kernels::all(&caps).into_iter().flat_map(|(defs, _)| defs).map(|def| (def, caps.clone())));
    }
    all
}

fn parse(def: &KernelDef, caps: &Caps) -> (naga::Module, naga::valid::ModuleInfo) {
    let linked = link(def, caps);
    let module = naga::front::wgsl::parse_str(&linked.wgsl).unwrap_or_else(|e| {
        let line = e.location(&linked.wgsl).map_or(0, |l| l.line_number as usize);
        panic!("{} at {:?}: {}", def.name, linked.locate(line), e.emit_to_string(&linked.wgsl))
    });
    let coop =
        if def.coop { Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16 } else { Capabilities::empty() };
    let always = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32 | Capabilities::SHADER_INT64;
    let info = Validator::new(ValidationFlags::all(), always | coop)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}: {}", def.name, e.emit_to_string(&linked.wgsl)));
    (module, info)
}

#[test]
fn every_declaration_agrees_with_its_shader() {
    for (def, caps) in declared() {
        let (module, _) = parse(&def, &caps);
        assert_eq!(module.entry_points.len(), 1, "{}: one entry point a kernel", def.name);
        assert_eq!(module.entry_points[0].name, def.entry);

        let mut seen = 0;
        for (_, global) in module.global_variables.iter() {
            let Some(at) = &global.binding else { continue };
            seen += 1;
            let group = if at.group == 0 { &def.bindings } else { &def.weights };
            let name = global.name.as_deref().unwrap();
            let binding = group.get(at.binding as usize);
            let binding = binding.unwrap_or_else(|| panic!("{}: {name} is not declared", def.name));
            assert_eq!(binding.name, name, "{}: group {} binding {}", def.name, at.group, at.binding);
            match (binding.access, global.space) {
                (Access::Uniform(fields, size), naga::AddressSpace::Uniform) => {
                    let naga::TypeInner::Struct { members, span } = &module.types[global.ty].inner else {
                        panic!("{}: {name} is not a struct", def.name)
                    };
                    let found: Vec<_> =
                        members.iter().map(|m| (m.name.as_deref().unwrap(), m.offset as usize)).collect();
                    assert_eq!(found, fields, "{}: fields of {name}", def.name);
                    assert_eq!(*span as usize, size, "{}: size of {name}", def.name);
                }
                (Access::Read, naga::AddressSpace::Storage { access }) => {
                    assert_eq!(access, naga::StorageAccess::LOAD, "{}: {name} is only read", def.name)
                }
                (Access::Write, naga::AddressSpace::Storage { access }) => {
                    assert!(access.contains(naga::StorageAccess::STORE), "{}: {name} is written", def.name)
                }
                (declared, space) => panic!("{}: {name} is {space:?}, declared {declared:?}", def.name),
            }
        }
        assert_eq!(seen, def.bindings.len() + def.weights.len(), "{}: bindings in the shader", def.name);

        let storage =
            def.bindings.iter().chain(&def.weights).filter(|b| !matches!(b.access, Access::Uniform(..))).count();
        assert!(storage <= 8, "{}: WebGPU promises 8 storage buffers a stage, it has {storage}", def.name);
        let overrides: BTreeSet<&str> = module.overrides.iter().filter_map(|(_, o)| o.name.as_deref()).collect();
        for (name, _) in &def.overrides {
            assert!(overrides.contains(name), "{}: no override {name}", def.name);
        }
    }
}

#[test]
fn every_kernel_translates_for_every_backend() {
    let (mut modules, mut bytes) = (0, 0);
    for (def, caps) in declared() {
        let (module, info) = parse(&def, &caps);
        let constants = def.overrides.iter().map(|(name, v)| ((*name).to_owned(), f64::from(*v))).collect();
        let (module, info) = naga::back::pipeline_constants::process_overrides(
            &module,
            &info,
            Some((naga::ShaderStage::Compute, def.entry)),
            &constants,
        )
        .unwrap_or_else(|e| panic!("{}: {e}", def.name));
        let lanes: u32 = module.entry_points[0].workgroup_size.iter().product();
        assert!((1..=caps.max_lanes).contains(&lanes), "{}: {lanes} lanes a workgroup", def.name);

        // Vulkan shows cooperative matrices from SPIR-V 1.6 on, Metal's are of 8x8, and Direct3D has none: wgpu lists the
        // feature accordingly, so that these forms are never asked for there.
        let metal_has_it = caps.coop.is_none_or(|coop| coop.size == 8) || !def.coop;
        let direct3d_has_it = !def.coop;
        let lang_version = if def.coop { (1, 6) } else { (1, 3) };
        let options = naga::back::spv::Options { lang_version, ..Default::default() };
        let spirv = naga::back::spv::write_vec(&module, &info, &options, None);
        bytes += 4 * spirv.unwrap_or_else(|e| panic!("{} to SPIR-V: {e}", def.name)).len();

        if metal_has_it {
            let options =
                naga::back::msl::Options { lang_version: (3, 0), fake_missing_bindings: true, ..Default::default() };
            let (msl, _) = naga::back::msl::write_string(&module, &info, &options, &Default::default())
                .unwrap_or_else(|e| panic!("{} to MSL: {e}", def.name));
            bytes += msl.len();
        }

        let options = naga::back::hlsl::Options {
            shader_model: naga::back::hlsl::ShaderModel::V6_6,
            fake_missing_bindings: true,
            ..Default::default()
        };
        if direct3d_has_it {
            let mut hlsl = String::new();
            naga::back::hlsl::Writer::new(&mut hlsl, &options, &Default::default())
                .write(&module, &info, None)
                .unwrap_or_else(|e| panic!("{} to HLSL: {e}", def.name));
            bytes += hlsl.len();
        }
        modules += 1;
    }
    eprintln!("{modules} modules in three languages, {bytes} bytes");
    assert!(modules > 100 && bytes > modules * 1000);
}

#[test]
fn every_shader_file_is_linked_into_a_kernel() {
    let used: BTreeSet<String> = declared()
        .into_iter()
        .flat_map(|(def, _)| def.parts)
        .flat_map(|part| match part {
            Part::File(source) => vec![source.file],
            Part::Subgroups { with, without } | Part::Cpu { with, without } | Part::Longs { with, without } => {
                vec![with.file, without.file]
            }
        })
        .map(str::to_owned)
        .collect();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut found = BTreeSet::new();
    for (dir, prefix) in [(root.clone(), ""), (root.join("lib"), "lib/")] {
        for entry in std::fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".wgsl") {
                found.insert(format!("{prefix}{name}"));
            }
        }
    }
    assert_eq!(found, used);
}

#[test]
fn a_declaration_that_disagrees_would_be_noticed() {
    // The negative control of the first test: the offsets that it compares do come from the shader.
    let caps = Caps::portable();
    let def = kernels::all(&caps).swap_remove(1).0.swap_remove(0);
    let (module, _) = parse(&def, &caps);
    let (_, params) = module.global_variables.iter().find(|(_, g)| g.name.as_deref() == Some("params")).unwrap();
    let naga::TypeInner::Struct { members, .. } = &module.types[params.ty].inner else { panic!("a struct") };
    let Access::Uniform(fields, _) = def.bindings[0].access else { panic!("a uniform") };
    assert_ne!((members[1].name.as_deref().unwrap(), members[1].offset as usize), fields[0]);
}

#[test]
fn a_message_of_the_compiler_is_mapped_back_to_its_file() {
    let caps = Caps::portable();
    for (def, _) in declared() {
        let linked = link(&def, &caps);
        let lines: Vec<&str> = linked.wgsl.lines().collect();
        let entry = lines.iter().position(|line| line.starts_with(&format!("fn {}(", def.entry))).unwrap() + 1;
        let (file, line) = linked.locate(entry);
        let text = std::fs::read_to_string(format!("{}/shaders/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(text.lines().nth(line - 1), Some(lines[entry - 1]), "{}", def.name);
    }
}
