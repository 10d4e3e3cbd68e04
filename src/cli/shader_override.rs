//! Shaders of a folder, which nobody should use without knowing.

use peregrine::gpu::Caps;
use peregrine::kernels::unused_shaders;
use std::sync::Once;

/// Says once, aloud, that shaders are not those compiled in.
pub fn report_shader_override(caps: &Caps) {
    static SAID: Once = Once::new();
    let Some(folder) = &caps.shaders else { return };
    SAID.call_once(|| {
        let unused = unused_shaders(caps);
        let used: Vec<&str> = folder.files().filter(|file| !unused.iter().any(|other| other == file)).collect();
        let list = |files: &[&str]| if files.is_empty() { "none".to_owned() } else { files.join(", ") };
        eprintln!("shaders of {} instead of those compiled in: {}", folder.dir().display(), list(&used));
        if !unused.is_empty() {
            eprintln!("no kernel of this adapter is made from: {}", unused.join(", "));
        }
    });
}
