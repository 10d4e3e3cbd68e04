'use strict';
// Falcon Mamba, Mamba and Vision Mamba on any GPU. index.d.ts documents all of it.

const { PeregrineError } = require('./lib/errors.js');
const { version, adapters, load, loadVision } = require('./lib/load.js');
const { Model } = require('./lib/model.js');
const { Session, Mark } = require('./lib/session.js');
const { Answer } = require('./lib/answer.js');
const { VisionModel } = require('./lib/vision.js');

module.exports = { Answer, Mark, Model, PeregrineError, Session, VisionModel, adapters, load, loadVision, version };
