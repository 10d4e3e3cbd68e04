//! Compiling C programs against the library that was built with the tests, and running them.
#![allow(dead_code, reason = "each test file uses its own part")]

#[path = "../../../../tests/common/no_gpu.rs"]
mod no_gpu;

#[allow(unused_imports, reason = "each test file uses its own part")]
pub use no_gpu::no_gpu;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

pub fn binding() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The repository.
pub fn root() -> PathBuf {
    binding().join("../..").canonicalize().unwrap()
}

pub fn model(name: &str) -> String {
    root().join("models").join(name).display().to_string()
}

pub fn fixture(name: &str) -> String {
    root().join("tests/fixtures").join(name).display().to_string()
}

/// The folder in which cargo put this test, and the library.
pub fn built() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// A folder with the library under the name that it is installed with, and what is compiled here.
pub struct Workshop {
    dir: TempDir,
}

/// A language with its compiler.
#[derive(Clone, Copy)]
pub enum Language {
    C,
    Cpp,
}

/// What watches over a program.
#[derive(Clone, Copy)]
pub enum Watch {
    Nothing,
    /// AddressSanitizer, with leaks, and UndefinedBehaviorSanitizer.
    Memory,
}

impl Workshop {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for end in ["so", "a"] {
            let built = built().join(format!("libperegrine_c.{end}"));
            assert!(built.exists(), "cargo has not built {}", built.display());
            std::os::unix::fs::symlink(built, dir.path().join(format!("libperegrine.{end}"))).unwrap();
        }
        Workshop { dir }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Compiles without a warning, and links the shared library.
    pub fn compile(&self, source: &Path, language: Language, watch: Watch) -> PathBuf {
        let link = ["-lperegrine".to_owned(), format!("-Wl,-rpath,{}", self.dir.path().display())];
        self.compile_with(source, language, watch, &link)
    }

    pub fn compile_with(&self, source: &Path, language: Language, watch: Watch, link: &[String]) -> PathBuf {
        let (compiler, language): (_, &[&str]) = match language {
            Language::C => ("cc", &["-std=c11"]),
            Language::Cpp => ("c++", &["-x", "c++", "-std=c++17"]),
        };
        let program = self.file(&format!("{}-{compiler}", source.file_stem().unwrap().display()));
        let mut command = Command::new(compiler);
        command.args(language).args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-pthread"]);
        if let Watch::Memory = watch {
            command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        }
        command.arg("-I").arg(binding().join("include")).arg(source).args(["-x", "none"]);
        command.arg("-L").arg(self.dir.path()).args(link).arg("-o").arg(&program);
        let output = command.output().unwrap_or_else(|error| {
            panic!("{compiler}: {error}; these tests need a C and a C++ compiler: `./setup.sh test` installs them")
        });
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", source.display());
        program
    }
}

/// The source of a test program.
pub fn source(name: &str) -> PathBuf {
    binding().join("tests/c").join(format!("{name}.c"))
}

/// A compiled program; leaks of drivers, by the names of their libraries, are no failures.
pub fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    let suppressions = binding().join("tests/c/leaks.supp");
    command.args(arguments).stdin(Stdio::null()).env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=0");
    command.env("LSAN_OPTIONS", format!("suppressions={}:print_suppressions=0", suppressions.display()));
    command
}

pub fn run(program: &Path, arguments: &[&str]) -> Output {
    command(program, arguments).output().unwrap()
}

/// What a program prints that ends well.
pub fn stdout(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    eprint!("{said}");
    String::from_utf8(output.stdout).unwrap()
}
