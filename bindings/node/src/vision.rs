//! Pictures: classes and features by a Vision Mamba.

use crate::adapter::{self, Adapter};
use crate::calls::{Calls, Desk};
use crate::load::LoadOptions;
use napi::bindgen_prelude::{Either, Float32Array, Uint8Array};
use napi_derive::napi;
use peregrine::vision::{self, FeatureMap, FeatureOptions, Picture, VisionCheckpoint, VisionOptions};
use peregrine_bindings::Place;
use std::sync::Arc;

const NAMES: [&str; 2] = ["model", "the model is busy with another call"];

#[napi]
pub struct VisionModel {
    desk: Arc<Desk>,
    label: String,
    adapter: Adapter,
    classes: Vec<String>,
    place: Arc<Place<vision::VisionModel>>,
}

/// A class of a picture.
#[napi(object, object_from_js = false)]
pub struct PictureClass {
    pub index: u32,
    pub name: String,
    pub logit: f64,
    pub probability: f64,
}

/// Numbers in rows, the last dimension innermost.
#[napi(object, object_from_js = false)]
pub struct Numbers {
    pub values: Float32Array,
    pub shape: Vec<u32>,
}

/// Features of a picture.
#[napi(object, object_from_js = false)]
pub struct PictureFeatures {
    pub class_token: Numbers,
    pub map: Option<Numbers>,
    pub layers: Vec<Numbers>,
}

/// What features are asked for.
#[napi(object, object_to_js = false)]
pub struct PictureOptions {
    pub map: bool,
    pub layers: Vec<u32>,
    /// Height and width.
    pub image: Option<Vec<u32>>,
}

impl Numbers {
    fn new(values: Vec<f32>, shape: &[usize]) -> Self {
        // A dimension counts values that are there: of 16 GB or more in one of them there are none.
        let shape = shape.iter().map(|n| u32::try_from(*n).unwrap_or(u32::MAX)).collect();
        Numbers { values: Float32Array::new(values), shape }
    }
}

impl From<vision::Features> for PictureFeatures {
    fn from(features: vision::Features) -> Self {
        let map = |map: FeatureMap| Numbers::new(map.values, &[map.channels, map.height, map.width]);
        let width = features.class_token.len();
        PictureFeatures {
            class_token: Numbers::new(features.class_token, &[width]),
            map: features.map.map(map),
            layers: features.layers.into_iter().map(map).collect(),
        }
    }
}

impl From<vision::Class> for PictureClass {
    fn from(class: vision::Class) -> Self {
        let vision::Class { index, name, logit, probability } = class;
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        PictureClass { index, name, logit: f64::from(logit), probability: f64::from(probability) }
    }
}

/// A picture: a path, or the bytes of a file.
enum Source {
    Path(String),
    Bytes(Vec<u8>),
}

impl Source {
    fn of(given: Either<String, Uint8Array>) -> Self {
        match given {
            Either::A(path) => Source::Path(path),
            Either::B(bytes) => Source::Bytes(bytes.to_vec()),
        }
    }

    fn open(&self) -> peregrine::Result<Picture> {
        match self {
            Source::Path(path) => Picture::open(path),
            Source::Bytes(bytes) => Picture::decode("the picture", bytes),
        }
    }
}

fn open(sources: &[Source]) -> peregrine::Result<Vec<Picture>> {
    sources.iter().map(Source::open).collect()
}

#[napi]
impl Calls {
    /// Replies with a loaded vision model.
    #[napi(catch_unwind)]
    pub fn load_vision(&self, call: u32, model: Option<String>, options: LoadOptions) {
        let desk = self.desk().clone();
        let gpu = adapter::choice(options.gpu.clone());
        self.desk().load(call, model, gpu, move |gpu, path, report| {
            let batch = options.batch.map(|batch| batch as usize);
            let given = VisionOptions::default().batch(batch).weights(options.recipe()?).memory(options.memory());
            let given = given.math(options.math()?);
            let checkpoint = path.map_or_else(VisionCheckpoint::embedded, VisionCheckpoint::open)?;
            let model = vision::VisionModel::load(gpu, checkpoint, given, &mut |progress| report.upload(progress))?;
            let (checkpoint, cancel) = (model.checkpoint(), model.cancel_handle());
            Ok(VisionModel {
                desk,
                label: checkpoint.label().to_owned(),
                adapter: Adapter::from(model.gpu().info()),
                classes: (0..checkpoint.vim().classes).map(|class| checkpoint.class_name(class)).collect(),
                place: Place::new(model, cancel, NAMES),
            })
        });
    }
}

#[napi]
impl VisionModel {
    /// Replies with the classes of each picture.
    #[napi(catch_unwind)]
    pub fn classify(&self, call: u32, pictures: Vec<Either<String, Uint8Array>>, top: u32) {
        let sources: Vec<_> = pictures.into_iter().map(Source::of).collect();
        self.desk.call(call, &self.place, move |model| {
            let found = model.classify(&open(&sources)?, top as usize, &mut |_| {})?;
            let classes = |classes: Vec<_>| classes.into_iter().map(PictureClass::from).collect::<Vec<_>>();
            Ok(found.into_iter().map(classes).collect::<Vec<_>>())
        });
    }

    /// Replies with the features of each picture.
    #[napi(catch_unwind)]
    pub fn features(&self, call: u32, pictures: Vec<Either<String, Uint8Array>>, options: PictureOptions) {
        let sources: Vec<_> = pictures.into_iter().map(Source::of).collect();
        self.desk.call(call, &self.place, move |model| {
            let image = match options.image.as_deref() {
                Some([height, width]) => Some([*height as usize, *width as usize]),
                _ => None,
            };
            let layers: Vec<_> = options.layers.iter().map(|layer| *layer as usize).collect();
            let options = FeatureOptions::default().map(options.map).layers(layers).image(image);
            let found = model.features(&open(&sources)?, &options, &mut |_| {})?;
            Ok(found.into_iter().map(PictureFeatures::from).collect::<Vec<_>>())
        });
    }

    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.place.cancel_handle().cancel();
    }

    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.place.close();
    }

    #[napi(getter, catch_unwind)]
    pub fn name(&self) -> String {
        self.label.clone()
    }

    #[napi(getter, catch_unwind)]
    pub fn adapter(&self) -> Adapter {
        self.adapter.clone()
    }

    #[napi(getter, catch_unwind)]
    pub fn classes(&self) -> Vec<String> {
        self.classes.clone()
    }
}
