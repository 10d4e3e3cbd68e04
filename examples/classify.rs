// Classifies a picture with Vision Mamba: `cargo run --release --example classify`, in a folder with a digit.png.

use peregrine::vision::{Picture, VisionCheckpoint, VisionModel, VisionOptions};
use peregrine::{AdapterChoice, Gpu};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = Gpu::open(&AdapterChoice::Best)?;
    let checkpoint = VisionCheckpoint::embedded()?; // or VisionCheckpoint::open(path), with a folder or a .pth file
    let mut model = VisionModel::load(&gpu, checkpoint, VisionOptions::default(), &mut |_| {})?;
    let pictures = [Picture::open("digit.png")?];
    let progress = &mut |done: usize| eprint!("\r{done} pictures");
    for classes in model.classify(&pictures, 3, progress)? {
        println!("{} with {:.1} %", classes[0].name, 100.0 * classes[0].probability);
    }
    Ok(())
}
