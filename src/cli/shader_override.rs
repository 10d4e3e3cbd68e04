//! The note about shaders loaded from `PEREGRINE_SHADERS`.

use peregrine::gpu::Caps;
use peregrine::kernels::unused_shaders;
use std::sync::Once;

/// Prints once that shaders come from a folder instead of the binary.
pub fn report_shader_override(caps: &Caps) {
    static SAID: Once = Once::new();
    let Some(folder) = &caps.shaders else { return };
    SAID.call_once(|| {
        let unused = unused_shaders(caps);
        let used: Vec<&str> = folder.files().filter(|file| !unused.iter().any(|other| other == file)).collect();
        let list = |files: &[&str]| if files.is_empty() { "none".to_owned() } else { files.join(", ") };
        eprintln!("using shaders from {} instead of the built-in ones: {}", folder.dir().display(), list(&used));
        if !unused.is_empty() {
            eprintln!("not used by any kernel on this adapter: {}", unused.join(", "));
        }
    });
}
