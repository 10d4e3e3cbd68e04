//! Which files of a repository a model needs.

use super::name::Choice;
use std::collections::BTreeSet;

/// Small files of a model in the layout of transformers: all that exist are fetched, before the weights.
const SMALL: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "preprocessor_config.json",
];

/// Quantizations of GGUF files in the order of preference where none is named: about 4.5 bits per weight first, as llama.cpp does,
/// then the nearest larger ones, then smaller ones, then unquantized weights.
pub(super) const PREFERRED: [&str; 22] = [
    "Q4_K_M", "Q4_K_S", "Q4_K", "Q5_K_M", "Q5_K_S", "Q5_K", "Q6_K", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL",
    "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q3_K", "Q2_K", "BF16", "F16", "F32",
];

/// Indexes of weights in several files.
const INDEXES: [&str; 2] = ["model.safetensors.index.json", "pytorch_model.bin.index.json"];

/// The files to fetch and what to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Files to fetch first.
    pub(super) small: Vec<String>,
    pub(super) weights: Weights,
    /// The file to open; `None` for the folder.
    pub(super) open: Option<String>,
}

/// The files with the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Weights {
    Files(Vec<String>),
    /// The files that this index, a small file, names.
    Index(String),
}

/// Chooses from the files of a repository. The error says what it has instead and what to do.
pub(super) fn choose(files: &[String], choice: &Choice) -> Result<Chosen, String> {
    match choice {
        Choice::File(name) => named(files, name),
        Choice::Quant(quant) => {
            let models = gguf_models(files);
            let found: Vec<&str> = models.iter().copied().filter(|file| has_quant(file, quant)).collect();
            match found[..] {
                [only] => gguf(files, only),
                [] if models.is_empty() => Err(format!(
                    "it has no GGUF files, so there is no {quant} to choose: leave out :{quant}, and quantize while loading \
                     with --weights"
                )),
                [] => Err(format!("no GGUF file has {quant} in its name; it has {}", listed(&models))),
                _ => {
                    Err(format!("several GGUF files have {quant} in their names: name one of them: {}", listed(&found)))
                }
            }
        }
        Choice::Default => by_default(files),
    }
}

fn by_default(files: &[String]) -> Result<Chosen, String> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let folder = |weights| Ok(Chosen { small: small(files), weights, open: None });
    let top = |ending: &str| -> Vec<String> {
        files.iter().filter(|file| !file.contains('/') && file.ends_with(ending)).cloned().collect()
    };
    let tensors = top(".safetensors");
    let of_model: Vec<String> = tensors.iter().filter(|file| file.starts_with("model-")).cloned().collect();
    if has("config.json") {
        if has("model.safetensors") {
            return folder(Weights::Files(vec!["model.safetensors".to_owned()]));
        }
        if has(INDEXES[0]) {
            return folder(Weights::Index(INDEXES[0].to_owned()));
        }
        match (tensors.len(), of_model.len()) {
            (_, parts @ 1..) if parts > 0 => return folder(Weights::Files(of_model)),
            (1, _) => return folder(Weights::Files(tensors)),
            _ => {}
        }
    }
    let models = gguf_models(files);
    for quant in PREFERRED {
        let found: Vec<&str> = models.iter().copied().filter(|file| has_quant(file, quant)).collect();
        match found[..] {
            [] => {}
            [only] => return gguf(files, only),
            _ => return Err(format!("it has several models: name one of them: {}", listed(&found))),
        }
    }
    match models[..] {
        [] => {}
        [only] => return gguf(files, only),
        _ => return Err(format!("it has several models: name one of them: {}", listed(&models))),
    }
    if has("pytorch_model.bin") {
        return folder(Weights::Files(vec!["pytorch_model.bin".to_owned()]));
    }
    if has(INDEXES[1]) {
        return folder(Weights::Index(INDEXES[1].to_owned()));
    }
    let pickles = [top(".pth"), top(".pt")].concat();
    match (&pickles[..], &tensors[..]) {
        ([only], _) => named(files, only),
        ([], []) => Err(format!(
            "it has no model that peregrine reads: no config.json with .safetensors files, no .gguf, .pth or pytorch_model.bin; it has {}",
            listed(&files.iter().map(String::as_str).collect::<Vec<_>>())
        )),
        ([], several) | (several, _) => Err(format!(
            "it has several models: name one of them: {}",
            listed(&several.iter().map(String::as_str).collect::<Vec<_>>())
        )),
    }
}

/// The file of this name, or of this name in a folder.
fn named(files: &[String], name: &str) -> Result<Chosen, String> {
    let found: Vec<&str> = match files.iter().find(|file| *file == name) {
        Some(file) => vec![file],
        None => {
            let last = |file: &str| file.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(name));
            files.iter().map(String::as_str).filter(|file| last(file)).collect()
        }
    };
    match found[..] {
        [only] if is_gguf(only) => gguf(files, only),
        [only] => {
            let is_folder = only.ends_with(".safetensors") || only.ends_with(".bin");
            let open = (!is_folder || only.contains('/')).then(|| only.to_owned());
            Ok(Chosen { small: small(files), weights: Weights::Files(vec![only.to_owned()]), open })
        }
        [] => {
            let weights = |file: &&str| super::name::WEIGHTS.iter().any(|ending| file.ends_with(ending));
            let there: Vec<&str> = files.iter().map(String::as_str).filter(weights).collect();
            Err(format!("it has no file {name}; its files with weights are {}", listed(&there)))
        }
        _ => Err(format!("several files are called {name}: name one of them: {}", listed(&found))),
    }
}

/// A GGUF model: its file, or all parts of it.
fn gguf(files: &[String], first: &str) -> Result<Chosen, String> {
    let parts = match Part::of(first) {
        None => vec![first.to_owned()],
        Some(part) => part.all(),
    };
    if let Some(missing) = parts.iter().find(|part| !files.contains(part)) {
        return Err(format!("it has no {missing}, a part of the model {first}"));
    }
    Ok(Chosen { small: vec![], open: parts.first().cloned(), weights: Weights::Files(parts) })
}

/// GGUF files, of a model in several parts the first one. Projectors and importance matrices are no models.
pub(super) fn gguf_models(files: &[String]) -> Vec<&str> {
    let is_model = |file: &&str| {
        let name = file.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        is_gguf(file)
            && !name.contains("mmproj")
            && !name.contains("imatrix")
            && Part::of(file).is_none_or(|part| part.number == 1)
    };
    files.iter().map(String::as_str).filter(is_model).collect()
}

fn is_gguf(file: &str) -> bool {
    file.to_ascii_lowercase().ends_with(".gguf")
}

fn small(files: &[String]) -> Vec<String> {
    let is_there = |name: &&str| files.iter().any(|file| file == name);
    SMALL.iter().chain(&INDEXES).copied().filter(is_there).map(str::to_owned).collect()
}

/// Whether a file's name has a quantization as a word, in any case of letters: `Q4_K` is not in `x-Q4_K_M.gguf`.
pub(super) fn has_quant(file: &str, quant: &str) -> bool {
    let (file, quant) = (file.to_ascii_lowercase(), quant.to_ascii_lowercase());
    let mut from = 0;
    while let Some(at) = file[from..].find(&quant).map(|at| at + from) {
        let before = file[..at].chars().next_back();
        let after = file[at + quant.len()..].chars().next();
        if !before.is_some_and(|c| c.is_ascii_alphanumeric())
            && !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            return true;
        }
        from = at + 1;
    }
    false
}

/// The first names of a list.
fn listed(names: &[&str]) -> String {
    const MOST: usize = 12;
    let names: BTreeSet<&str> = names.iter().copied().collect();
    let shown: Vec<&str> = names.iter().copied().take(MOST).collect();
    match names.len() {
        0 => "none".to_owned(),
        all if all > MOST => format!("{} and {} more", shown.join(", "), all - MOST),
        _ => shown.join(", "),
    }
}

/// A name such as `x-00002-of-00003.gguf`.
struct Part<'a> {
    name: &'a str,
    number: u32,
    count: u32,
}

impl<'a> Part<'a> {
    fn of(file: &'a str) -> Option<Self> {
        let stem = file.get(..file.len().checked_sub(5)?).filter(|_| is_gguf(file))?;
        let (stem, count) = stem.rsplit_once("-of-")?;
        let (name, number) = stem.rsplit_once('-')?;
        let whole = |text: &str| text.parse().ok().filter(|_| text.len() == 5);
        let (number, count) = (whole(number)?, whole(count)?);
        (1..=count).contains(&number).then_some(Part { name, number, count })
    }

    fn all(&self) -> Vec<String> {
        (1..=self.count).map(|number| format!("{}-{number:05}-of-{:05}.gguf", self.name, self.count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[&str], choice: &Choice) -> Result<(Vec<String>, Option<String>), String> {
        let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
        choose(&files, choice).map(|chosen| match chosen.weights {
            Weights::Files(files) => (files, chosen.open),
            Weights::Index(index) => (vec![index], chosen.open),
        })
    }

    fn quant(text: &str) -> Choice {
        Choice::Quant(text.to_owned())
    }

    #[test]
    fn the_layout_of_transformers_comes_first_then_gguf_by_preference_then_pickles() {
        let all = ["config.json", "model.safetensors", "x-Q4_K_M.gguf", "x-Q8_0.gguf", "pytorch_model.bin"];
        let first = |files: &[&str]| chosen(files, &Choice::Default).unwrap();
        assert_eq!(first(&all), (vec!["model.safetensors".to_owned()], None));
        // Without config.json, a folder cannot be opened.
        assert_eq!(first(&all[1..]).1.unwrap(), "x-Q4_K_M.gguf");
        assert_eq!(first(&all[3..]).1.unwrap(), "x-Q8_0.gguf");
        assert_eq!(first(&all[4..]), (vec!["pytorch_model.bin".to_owned()], None));
        assert_eq!(first(&["a.gguf", "README.md"]).1.unwrap(), "a.gguf");
        assert_eq!(first(&["vim.pth", "README.md"]).1.unwrap(), "vim.pth");
        let sharded = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(first(&sharded).0.len(), 2);
        assert_eq!(
            first(&[&sharded[..], &["model.safetensors.index.json"]].concat()).0,
            ["model.safetensors.index.json"]
        );
    }

    #[test]
    fn a_quantization_is_a_word_of_the_name() {
        let files = ["m-Q4_K_M.gguf", "m-q4_k_s.gguf", "m.BF16.gguf", "m-f16.gguf", "mmproj-f16.gguf"];
        let open = |text: &str| chosen(&files, &quant(text)).map(|(_, open)| open.unwrap());
        assert_eq!(open("q4_k_m").unwrap(), files[0]);
        assert_eq!(open("Q4_K_S").unwrap(), files[1]);
        assert_eq!(open("F16").unwrap(), files[3]);
        for missing in ["Q4_K", "Q8_0", "Q4"] {
            let said = open(missing).unwrap_err();
            assert!(said.contains(&format!("no GGUF file has {missing}")) && said.contains(files[1]), "{said}");
        }
        let two = chosen(&["a-Q8_0.gguf", "b-Q8_0.gguf"], &quant("Q8_0")).unwrap_err();
        assert!(two.contains("several") && two.contains("a-Q8_0.gguf, b-Q8_0.gguf"), "{two}");
        assert!(chosen(&["config.json", "model.safetensors"], &quant("Q8_0")).unwrap_err().contains("--weights"));
    }

    #[test]
    fn a_model_in_parts_needs_all_of_them() {
        let parts = ["q/m-Q8_0-00001-of-00002.gguf", "q/m-Q8_0-00002-of-00002.gguf"];
        for choice in [Choice::Default, quant("Q8_0"), Choice::of(parts[1]), Choice::of("m-Q8_0-00001-of-00002.gguf")] {
            let (files, open) = chosen(&parts, &choice).unwrap();
            assert_eq!((files, open.as_deref()), (parts.map(str::to_owned).to_vec(), Some(parts[0])), "{choice:?}");
        }
        assert!(chosen(&parts[..1], &Choice::Default).unwrap_err().contains(parts[1]));
    }

    #[test]
    fn what_is_missing_or_ambiguous_is_said_with_what_there_is() {
        let said = |files: &[&str], choice: &Choice| chosen(files, choice).unwrap_err();
        assert!(said(&["README.md"], &Choice::Default).contains("README.md"));
        assert!(said(&["a.gguf", "b.gguf"], &Choice::Default).contains("a.gguf, b.gguf"));
        assert!(said(&["a.pth", "b.pth"], &Choice::Default).contains("a.pth, b.pth"));
        assert!(said(&["a.gguf", "x.txt"], &Choice::of("c.gguf")).contains("its files with weights are a.gguf"));
    }
}
