// Logits with bias and penalties.
var<private> logits_at: u32;
var<private> bias_at: u32;
var<private> recent_at: u32;
var<private> rules: SamplingParams;

fn look_at(now: Chooser) {
  let slot = now.entry.slot;
  logits_at = (slot * params.versions + (now.entry.version + batch.advance) % params.versions) * params.stride;
  bias_at = slot * params.vocab;
  recent_at = slot * (WINDOW + params.vocab) + WINDOW;
  rules = now.rules;
}

// The logit of an id with its bias and, if it is recent, its penalties.
fn logit(id: u32) -> f32 {
  var v = logits[logits_at + id] + bias[bias_at + id];
  if (rules.window > 0u) {
    let count = recent[recent_at + id];
    if (count > 0u) {
      v = select(v / rules.repeat_penalty, v * rules.repeat_penalty, v <= 0.0);
      v -= f32(count) * rules.frequency_penalty + rules.presence_penalty;
    }
  }
  return v;
}
