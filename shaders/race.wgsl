// Lanes that pass words to each other through workgroup memory, and count with atomics: a barrier or an atomic that is weaker than
// it must be gives other words in some of many rounds.
@group(0) @binding(0) var<storage, read_write> words: array<u32>;           // [workgroups, WG]
@group(0) @binding(1) var<storage, read_write> totals: array<atomic<u32>>;  // sum, largest, smallest, exclusive or

override WG: u32 = 256u;

var<workgroup> line: array<u32, WG>;
var<workgroup> odd: atomic<u32>;

@compute @workgroup_size(WG)
fn race(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (lane == 0u) { atomicStore(&odd, 0u); }
  let at = group.x * WG + lane;
  var word = at * 747796405u + 2891336453u;
  for (var round = 0u; round < ROUNDS; round++) {
    line[lane] = word;
    workgroupBarrier();
    // Another lane, which is in another subgroup in most rounds.
    word = word * 277803737u + line[(lane + 1u + 37u * round) % WG];
    if ((word & 1u) == 1u) { atomicAdd(&odd, 1u); }
    workgroupBarrier();
    word ^= atomicLoad(&odd);
    workgroupBarrier();
  }
  // Below 2 as a float: words that are compared are never NaN.
  word &= 0x3fffffffu;
  words[at] = word;
  atomicAdd(&totals[0], word & 0xffffu);
  atomicMax(&totals[1], word);
  atomicMin(&totals[2], word);
  atomicXor(&totals[3], word);
}
