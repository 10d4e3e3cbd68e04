//! Accuracy on pictures with one right class each.

use crate::error::{Error, Result};
use crate::vision::{Picture, VisionModel};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Pictures that are opened at a time.
const AT_A_TIME: usize = 64;

/// A picture and the name or number of its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledPicture {
    /// Its file.
    pub path: PathBuf,
    /// The name of its class, or its number among the classes.
    pub answer: String,
}

/// How many pictures were classified right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rating {
    /// Pictures whose most probable class is right.
    pub top_1: usize,
    /// Pictures whose class is among the five most probable.
    pub top_5: usize,
    /// Pictures classified.
    pub asked: usize,
}

impl LabelledPicture {
    /// Lists a file of JSON objects with "image" (relative to the file) and "answer" (a name or a number) per line, or a folder
    /// with a folder of pictures for each class, as torchvision's ImageFolder has it.
    pub fn read_all(from: &Path) -> Result<Vec<LabelledPicture>> {
        let all = if from.is_dir() { of_folder(from)? } else { of_lines(from)? };
        if all.is_empty() {
            let problem = "it has no pictures".to_owned();
            return Err(Error::BadJson { file: from.display().to_string(), problem });
        }
        Ok(all)
    }
}

fn of_lines(file: &Path) -> Result<Vec<LabelledPicture>> {
    let text = std::fs::read_to_string(file).map_err(|e| Error::unreadable(file, e))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(i, line)| {
        let bad = |problem: String| Error::BadJson { file: format!("{}, line {}", file.display(), i + 1), problem };
        let json: Value = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
        let answer = match &json["answer"] {
            Value::String(name) => Some(name.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        match (json["image"].as_str(), answer) {
            (Some(image), Some(answer)) => Ok(LabelledPicture { path: folder.join(image), answer }),
            _ => Err(bad("a picture is an object with a string \"image\" and an \"answer\"".to_owned())),
        }
    });
    parsed.collect()
}

fn of_folder(folder: &Path) -> Result<Vec<LabelledPicture>> {
    let mut all = Vec::new();
    for class in sorted(folder)?.into_iter().filter(|path| path.is_dir()) {
        let answer = class.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pictures = sorted(&class)?.into_iter().filter(|path| path.is_file());
        all.extend(pictures.map(|path| LabelledPicture { path, answer: answer.clone() }));
    }
    Ok(all)
}

/// The entries of a folder that are not hidden, by name.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::unreadable(folder, e))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(|e| Error::unreadable(folder, e))?;
    paths.retain(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')));
    paths.sort();
    Ok(paths)
}

/// Classifies pictures; `on_batch` is called with the rating so far. A picture that cannot be read, or whose class the model does
/// not have, is an error.
pub fn rate(model: &mut VisionModel, pictures: &[LabelledPicture], on_batch: &mut dyn FnMut(Rating)) -> Result<Rating> {
    let classes = model.vim().classes;
    let names: Vec<String> = (0..classes).map(|class| model.checkpoint().class_name(class)).collect();
    let class = |picture: &LabelledPicture| -> Result<usize> {
        let by_name = names.iter().position(|name| *name == picture.answer);
        let by_number = || picture.answer.parse().ok().filter(|class| *class < classes);
        by_name.or_else(by_number).ok_or_else(|| Error::BadJson {
            file: picture.path.display().to_string(),
            problem: format!(
                "the model has no class {:?}; its {classes} classes begin with {:?}",
                picture.answer,
                names.first()
            ),
        })
    };
    // Before any work.
    let answers: Vec<usize> = pictures.iter().map(class).collect::<Result<_>>()?;
    let mut rating = Rating::default();
    for (pictures, answers) in pictures.chunks(AT_A_TIME).zip(answers.chunks(AT_A_TIME)) {
        let paths: Vec<PathBuf> = pictures.iter().map(|picture| picture.path.clone()).collect();
        let opened: Vec<Picture> = Picture::open_all(&paths).into_iter().collect::<Result<_>>()?;
        for (found, answer) in model.classify(&opened, 5, &mut |_| {})?.iter().zip(answers) {
            rating.top_1 += usize::from(found.first().is_some_and(|class| class.index == *answer));
            rating.top_5 += usize::from(found.iter().any(|class| class.index == *answer));
            rating.asked += 1;
        }
        on_batch(rating);
    }
    Ok(rating)
}
