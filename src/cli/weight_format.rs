//! `--weights`: weight formats by peregrine's and llama.cpp's names.

use peregrine::format::WeightFormat;

/// A weight format and the name given on the command line.
#[derive(Clone)]
pub struct FormatArg {
    pub format: WeightFormat,
    name: String,
}

impl FormatArg {
    /// Parses peregrine's name of a format, or a llama.cpp name of the same bit width.
    pub fn parse(name: &str) -> Result<Self, String> {
        let format = match WeightFormat::parse(name) {
            Some(format) => format,
            None => of_llama_name(name)?,
        };
        Ok(FormatArg { format, name: name.to_owned() })
    }

    /// Prints which format a llama.cpp name was mapped to.
    pub fn report(&self) {
        if WeightFormat::parse(&self.name).is_none() {
            eprintln!("-w {}: using {}", self.name, self.format);
        }
    }
}

/// The format with the bit width of a llama.cpp type.
fn of_llama_name(name: &str) -> Result<WeightFormat, String> {
    let lower = name.to_ascii_lowercase();
    let type_of = |kinds: &[&str]| kinds.iter().any(|kind| lower.strip_prefix(kind).is_some_and(is_end));
    let bits = |kinds: &[&str], digits: &[char]| {
        kinds.iter().any(|kind| lower.strip_prefix(kind).is_some_and(|rest| rest.starts_with(digits)))
    };
    match () {
        () if type_of(&["fp16"]) => Ok(WeightFormat::F16),
        () if type_of(&["fp32", "all_f32"]) => Ok(WeightFormat::F32),
        () if type_of(&["q4_k", "q4_1", "iq4_nl", "iq4_xs", "mxfp4"]) => Ok(WeightFormat::Q4K),
        () if type_of(&["q5_k", "q5_0", "q5_1"]) => Ok(WeightFormat::Q5K),
        () if type_of(&["q6_k"]) => Ok(WeightFormat::Q6K),
        () if type_of(&["q8_k", "q8_1"]) => Ok(WeightFormat::Q8_0),
        () if bits(&["q", "iq", "tq"], &['1', '2', '3']) => {
            Err("formats below 4 bits per weight are not supported; the smallest is q4_K".to_owned())
        }
        () => {
            let names: Vec<&str> = WeightFormat::ALL.iter().map(|format| format.name()).collect();
            Err(format!("available: {}", names.join(", ")))
        }
    }
}

/// Whether `rest` may follow a type's name: nothing, or the size of a mix.
fn is_end(rest: &str) -> bool {
    ["", "_s", "_m", "_l", "_xl", "_moe"].contains(&rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_cpp_names_map_to_the_format_of_the_same_bit_width() {
        use WeightFormat::{F16, Q4_0, Q4K, Q5K, Q6K, Q8_0};
        for (name, format) in [
            ("Q4_K_M", Q4K),
            ("q4_k_s", Q4K),
            ("q4_K", Q4K),
            ("IQ4_XS", Q4K),
            ("MXFP4_MOE", Q4K),
            ("Q4_0", Q4_0),
            ("Q5_K_M", Q5K),
            ("Q5_1", Q5K),
            ("Q6_K", Q6K),
            ("Q8_0", Q8_0),
            ("FP16", F16),
        ] {
            assert_eq!(FormatArg::parse(name).map(|named| named.format), Ok(format), "{name}");
        }
        for name in ["Q3_K_M", "Q2_K", "IQ2_XXS", "iq1_s", "TQ1_0"] {
            assert!(FormatArg::parse(name).is_err_and(|said| said.contains("4 bits")), "{name}");
        }
        for name in ["", "q", "q4_K_Q", "q7_0", "gptq"] {
            assert!(FormatArg::parse(name).is_err_and(|said| said.contains("available: f32")), "{name}");
        }
    }
}
