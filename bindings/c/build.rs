//! Linking of the shared library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // It is installed under this name.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libperegrine.so");
        // Dependencies have C interfaces of their own. A program may have another version of them, and must not get these.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    }
}
