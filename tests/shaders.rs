//! Kernel declarations against their WGSL, without a GPU: bindings, parameters, constants, translation for every backend.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use peregrine::gpu::{Access, Caps, Coop, KernelDef, Linked, ShaderPart, StructLayout, link};
use peregrine::kernels;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::process::Command;
use std::sync::{LazyLock, Mutex, OnceLock};

/// Every declaration with an adapter's capabilities that give it a module of its own.
static DECLARED: LazyLock<Vec<(KernelDef, Caps)>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for (subgroups, subgroup_min, subgroup_max, coop) in
        [(false, 4, 128, None), (true, 4, 128, None), (true, 8, 8, Some(8)), (true, 32, 32, Some(16))]
    {
        let coop = coop.map(|size| Coop { size, lanes: subgroup_min });
        // The last one is a GPU.
        let cpu = subgroup_min < 32;
        let caps = Caps { cpu, subgroups, subgroup_min, subgroup_max, coop, int64: subgroups, ..Caps::portable() };
        all.extend(kernels::all(&caps).into_iter().flat_map(|(defs, _)| defs).map(|def| (def, caps.clone())));
    }
    let mut seen = HashSet::new();
    all.retain(|(def, caps)| {
        let declaration = format!("{:?} {:?} {:?} {}", def.bindings, def.weights, def.overrides, def.coop);
        seen.insert((link(def, caps).wgsl, declaration))
    });
    all
});

/// A module that naga has validated.
type Valid = (naga::Module, naga::valid::ModuleInfo);

/// The module of a kernel. Tests, and kernels that differ only in their constants for pipelines, share one by its text.
fn parse(def: &KernelDef, caps: &Caps) -> &'static Valid {
    static PARSED: LazyLock<Mutex<HashMap<String, &'static OnceLock<Valid>>>> = LazyLock::new(Mutex::default);
    let linked = link(def, caps);
    let name = format!("{} {}", def.coop, linked.wgsl);
    let module = *PARSED.lock().unwrap().entry(name).or_insert_with(|| Box::leak(Box::default()));
    module.get_or_init(|| validated(def, &linked))
}

fn validated(def: &KernelDef, linked: &Linked) -> Valid {
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

/// The fields of a uniform, with their offsets.
type Fields = Vec<(&'static str, usize)>;
/// Words of an error, and the change that plants it.
type Planted<'a> = (&'static str, &'a dyn Fn(&mut KernelDef));

/// The fields of a struct of the module with their offsets, and its size.
fn layout_of(module: &naga::Module, ty: naga::Handle<naga::Type>) -> Option<(Vec<(String, usize)>, usize)> {
    let naga::TypeInner::Struct { members, span } = &module.types[ty].inner else { return None };
    let fields = members.iter().map(|m| (m.name.clone().unwrap(), m.offset as usize)).collect();
    Some((fields, *span as usize))
}

fn same_layout(name: &str, found: &(Vec<(String, usize)>, usize), declared: StructLayout) -> Result<(), String> {
    let StructLayout { fields, size } = declared;
    let named: Vec<(&str, usize)> = found.0.iter().map(|(field, offset)| (field.as_str(), *offset)).collect();
    if named != fields {
        return Err(format!("fields of {name}: {named:?}, declared {fields:?}"));
    }
    if found.1 != size {
        return Err(format!("size of {name}: {}, declared {size}", found.1));
    }
    Ok(())
}

/// The first difference of a declaration and its shader.
fn disagreement(def: &KernelDef, module: &naga::Module) -> Result<(), String> {
    if module.entry_points.len() != 1 || module.entry_points[0].name != def.entry {
        return Err(format!("one entry point a kernel, called {}", def.entry));
    }
    let mut seen = 0;
    for (_, global) in module.global_variables.iter() {
        let Some(at) = &global.binding else { continue };
        seen += 1;
        let group = if at.group == 0 { &def.bindings } else { &def.weights };
        let name = global.name.as_deref().unwrap();
        let binding = group.get(at.binding as usize).ok_or_else(|| format!("{name} is not declared"))?;
        if binding.name != name {
            return Err(format!("group {} binding {} is {name}, declared {}", at.group, at.binding, binding.name));
        }
        match (binding.access, global.space) {
            (Access::Uniform(declared), naga::AddressSpace::Uniform) => {
                let found = layout_of(module, global.ty).ok_or_else(|| format!("{name} is not a struct"))?;
                same_layout(name, &found, declared)?;
            }
            (Access::Read, naga::AddressSpace::Storage { access }) if access == naga::StorageAccess::LOAD => {}
            (Access::Write, naga::AddressSpace::Storage { access }) if access.contains(naga::StorageAccess::STORE) => {}
            (declared, space) => return Err(format!("access of {name}: {space:?}, declared {declared:?}")),
        }
        let element = match module.types[global.ty].inner {
            naga::TypeInner::Array { base, .. } => layout_of(module, base),
            _ => None,
        };
        match (element, binding.element) {
            (None, None) => {}
            (Some(found), Some(declared)) => same_layout(name, &found, declared)?,
            (found, declared) => return Err(format!("elements of {name}: {found:?}, declared {declared:?}")),
        }
    }
    if seen != def.bindings.len() + def.weights.len() {
        return Err(format!("{seen} bindings in the shader, declared {}", def.bindings.len() + def.weights.len()));
    }
    let storage = def.bindings.iter().chain(&def.weights).filter(|b| !matches!(b.access, Access::Uniform(..))).count();
    if storage > 8 {
        return Err(format!("WebGPU promises 8 storage buffers a stage, it has {storage}"));
    }
    let overrides: BTreeSet<&str> = module.overrides.iter().filter_map(|(_, o)| o.name.as_deref()).collect();
    match def.overrides.iter().find(|(name, _)| !overrides.contains(name)) {
        Some((name, _)) => Err(format!("no override {name}")),
        None => Ok(()),
    }
}

#[test]
fn every_declaration_agrees_with_its_shader() {
    for (def, caps) in DECLARED.iter() {
        let (module, _) = parse(def, caps);
        disagreement(def, module).unwrap_or_else(|e| panic!("{}: {e}", def.name));
    }
}

#[test]
fn every_kernel_translates_for_every_backend() {
    let (mut modules, mut bytes) = (0, 0);
    for (def, caps) in DECLARED.iter() {
        let (module, info) = parse(def, caps);
        let constants = def.overrides.iter().map(|(name, v)| ((*name).to_owned(), f64::from(*v))).collect();
        let (module, info) = naga::back::pipeline_constants::process_overrides(
            module,
            info,
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
    let used: BTreeSet<String> = DECLARED
        .iter()
        .flat_map(|(def, _)| &def.parts)
        .flat_map(|part| match part {
            ShaderPart::File(source) => vec![source.file],
            ShaderPart::Subgroups { with, without }
            | ShaderPart::Cpu { with, without }
            | ShaderPart::Longs { with, without } => {
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

/// A variable of a function in this line that has no initial value.
fn lacks_initial_value(line: &str) -> bool {
    let declared = line.split("//").next().unwrap().trim_end();
    declared.trim_start().starts_with("var ") && declared.starts_with(' ') && !declared.contains('=')
}

/// WGSL gives a variable without an initial value zeros each time its declaration is reached. Chromium on SwiftShader does that once:
/// in a loop it keeps the value of the last turn.
#[test]
fn every_variable_has_an_initial_value() {
    let mut lines = 0;
    for dir in ["shaders", "shaders/lib"] {
        for file in std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
            for (i, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
                assert!(!lacks_initial_value(line), "{} line {}: {line}", file.display(), i + 1);
                lines += 1;
            }
        }
    }
    assert!(lines > 1000, "only {lines} lines were read");
    assert!(
        lacks_initial_value("    var sums: array<f32, 4>;  // = 0") && !lacks_initial_value("var<private> a: u32;")
    );
}

#[test]
fn a_declaration_that_disagrees_is_detected() {
    // Negative control of the first test: each kind of error, planted in a correct declaration.
    let caps = Caps::portable();
    let good = kernels::all(&caps).into_iter().flat_map(|(defs, _)| defs);
    let good = good.filter(|def| def.bindings.len() > 2 && matches!(def.bindings[0].access, Access::Uniform(..)));
    let (mut planted, mut elements, mut names) = (0, 0, BTreeSet::new());
    for good in good {
        if !names.insert(good.name) {
            continue;
        }
        let (module, _) = parse(&good, &caps);
        disagreement(&good, module).unwrap_or_else(|e| panic!("{}: {e}", good.name));
        let Access::Uniform(layout) = good.bindings[0].access else { unreachable!("filtered") };
        let changed = |layout: StructLayout, change: &dyn Fn(&mut Fields)| {
            let mut fields = layout.fields.to_vec();
            change(&mut fields);
            StructLayout { fields: fields.leak(), ..layout }
        };
        let shifted = changed(layout, &|fields| fields.last_mut().unwrap().1 += 4);
        let renamed = changed(layout, &|fields| fields[0].0 = "another");
        let shorter = changed(layout, &|fields| fields.truncate(fields.len() - 1));
        let errors: [Planted<'_>; 11] = [
            ("one entry point", &|def| def.entry = "another"),
            ("declared", &|def| def.bindings.swap(1, 2)),
            ("declared another", &|def| def.bindings[1].name = "another"),
            ("is not declared", &|def| def.bindings.truncate(def.bindings.len() - 1)),
            ("bindings in the shader", &|def| def.bindings.push(def.bindings[1])),
            ("access of", &|def| {
                let access = &mut def.bindings[1].access;
                *access = if *access == Access::Read { Access::Write } else { Access::Read };
            }),
            ("fields of", &|def| def.bindings[0].access = Access::Uniform(shifted)),
            ("fields of", &|def| def.bindings[0].access = Access::Uniform(renamed)),
            ("fields of", &|def| def.bindings[0].access = Access::Uniform(shorter)),
            ("size of", &|def| {
                def.bindings[0].access = Access::Uniform(StructLayout { size: layout.size + 16, ..layout })
            }),
            ("no override", &|def| def.overrides.push(("another", 1))),
        ];
        // The row table and the sampling parameters are arrays of structs.
        for (i, element) in good.bindings.iter().enumerate().filter_map(|(i, b)| Some((i, b.element?))) {
            let shifted = changed(element, &|fields| fields[1].1 += 4);
            let renamed = changed(element, &|fields| fields.swap(0, 1));
            let larger = StructLayout { size: element.size + 4, ..element };
            let said = ["fields of", "fields of", "size of", "elements of"];
            for (said, element) in said.into_iter().zip([Some(shifted), Some(renamed), Some(larger), None]) {
                let mut bad = good.clone();
                bad.bindings[i].element = element;
                let noticed = disagreement(&bad, module).expect_err(said);
                assert!(noticed.contains(said), "{}: {said:?} is not said: {noticed}", good.name);
                elements += 1;
            }
        }
        for (said, plant) in errors {
            let mut bad = good.clone();
            plant(&mut bad);
            let noticed = disagreement(&bad, module).expect_err(said);
            assert!(noticed.contains(said), "{}: {said:?} is missing in: {noticed}", good.name);
            planted += 1;
        }
    }
    assert!(elements >= 4 * 5, "{elements} errors were planted in elements of arrays");
    assert!(planted >= 11 * 5, "{planted} errors were planted in {names:?}");
}

#[test]
fn a_message_of_the_compiler_is_mapped_back_to_its_file() {
    let caps = Caps::portable();
    for (def, _) in DECLARED.iter() {
        let linked = link(def, &caps);
        let lines: Vec<&str> = linked.wgsl.lines().collect();
        let entry = lines.iter().position(|line| line.starts_with(&format!("fn {}(", def.entry))).unwrap() + 1;
        let (file, line) = linked.locate(entry);
        let text = std::fs::read_to_string(format!("{}/shaders/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(text.lines().nth(line - 1), Some(lines[entry - 1]), "{}", def.name);
    }
}

/// What Tint, Chromium's compiler, says against a module.
fn refused_by_tint(wgsl: &str, dir: &std::path::Path) -> Option<String> {
    let (file, out) = (dir.join("module.wgsl"), dir.join("out.wgsl"));
    std::fs::write(&file, wgsl).unwrap();
    let output = Command::new("tint").args(["--format", "wgsl", "-o"]).args([&out, &file]).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Tint's uniformity analysis is stricter than naga's, which every test here runs too. Browsers get all modules but those with
/// cooperative matrices or 64-bit integers, which their WGSL does not have.
#[test]
fn tint_accepts_every_module() {
    if Command::new("tint").arg("--help").output().is_err() {
        eprintln!("SKIPPED tint_accepts_every_module: tint is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut seen, mut refused) = (BTreeSet::new(), Vec::new());
    for (def, caps) in DECLARED.iter().filter(|(def, _)| !def.coop) {
        let linked = link(def, &Caps { int64: false, ..caps.clone() });
        let enable = if caps.subgroups { "enable subgroups;\n" } else { "" };
        let wgsl = format!("{enable}{}", linked.wgsl);
        if seen.insert(wgsl.clone()) {
            refused.extend(refused_by_tint(&wgsl, dir.path()).map(|said| format!("{}: {said}", def.name)));
        }
    }
    eprintln!("tint accepts {} of {} modules", seen.len() - refused.len(), seen.len());
    assert!(seen.len() > 100 && refused.is_empty(), "{} are refused: {:?}", refused.len(), refused.first());
    // The control: a barrier that some lanes do not reach.
    let bad = "@compute @workgroup_size(64) fn f(@builtin(local_invocation_index) lane: u32) {
        if (lane > 3u) { workgroupBarrier(); }
    }";
    assert!(refused_by_tint(bad, dir.path()).unwrap().contains("uniform control flow"));
}
