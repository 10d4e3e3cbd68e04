//! Features of pictures: which are wanted, and what they are.

/// Which features of pictures are wanted.
///
/// ```
/// # use peregrine::vision::FeatureOptions;
/// // The maps that detection and segmentation heads take, of pictures of 512 x 512.
/// let options = FeatureOptions::default().layers([5, 11, 17, 23]).image([512, 512]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeatureOptions {
    /// Height and width that pictures are resized to; positions are interpolated. Without it: those that the model was trained
    /// for, prepared as for [`VisionModel::classify_async`](super::VisionModel::classify_async).
    pub image: Option<[usize; 2]>,
    /// Whether the map of the last layer, after the final norm, is wanted.
    pub map: bool,
    /// Layers whose maps are wanted: the residual stream after each, before any norm.
    pub layers: Vec<usize>,
}

impl FeatureOptions {
    /// Sets [`FeatureOptions::image`].
    pub fn image(self, image: impl Into<Option<[usize; 2]>>) -> Self {
        FeatureOptions { image: image.into(), ..self }
    }

    /// Sets [`FeatureOptions::map`].
    pub fn map(self, map: bool) -> Self {
        FeatureOptions { map, ..self }
    }

    /// Sets [`FeatureOptions::layers`].
    pub fn layers(self, layers: impl IntoIterator<Item = usize>) -> Self {
        FeatureOptions { layers: layers.into_iter().collect(), ..self }
    }
}

/// Features of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// `[E]`: the class token after the final norm, which the head reads.
    pub class_token: Vec<f32>,
    /// The map of the last layer after the final norm, where it was wanted.
    pub map: Option<FeatureMap>,
    /// The maps of the wanted layers, in their order.
    pub layers: Vec<FeatureMap>,
}

/// Values of the patches of a picture, `[E, height, width]`, without the class token.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMap {
    /// Width of the residual stream, E.
    pub channels: usize,
    /// Patches down the picture.
    pub height: usize,
    /// Patches across the picture.
    pub width: usize,
    /// The values.
    pub values: Vec<f32>,
}

/// Rows `[tokens, width]` of a picture without the class token, as `[width, patches]`.
pub(super) fn transposed(rows: &[f32], width: usize, class_at: usize) -> Vec<f32> {
    let patches = rows.len() / width - 1;
    let mut out = vec![0.0; patches * width];
    let of_patches = rows.chunks_exact(width).enumerate().filter(|(t, _)| *t != class_at);
    for (patch, (_, row)) in of_patches.enumerate() {
        for (e, value) in row.iter().enumerate() {
            out[e * patches + patch] = *value;
        }
    }
    out
}
