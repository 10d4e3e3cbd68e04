// C = A B^T for a tile of SIDE x SIDE by LANES (16 x 16) lanes through workgroup memory, DEPTH quads of k at a time; each lane
// makes 4 x 4 of it. `a_quad` and `b_quad` give a line's four values of k, `put` takes the results.
const SIDE: u32 = 64u;
const LANES: u32 = 256u;
const DEPTH: u32 = 4u;
const SIDE_A: u32 = SIDE;
const SIDE_B: u32 = SIDE;

struct Lanes {
  @builtin(local_invocation_index) index: u32,
}

var<workgroup> a_tile: array<vec4<f32>, 4u * DEPTH * SIDE / 4u>;  // [k, lines / 4]
var<workgroup> b_tile: array<vec4<f32>, 4u * DEPTH * SIDE / 4u>;

// Column i: line i of A, four lines of B.
fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> { return mat4x4<f32>(b * a.x, b * a.y, b * a.z, b * a.w); }

fn product(slice: u32, first_a: u32, first_b: u32, quads: u32, lanes: Lanes) {
  // Of the first 64 lanes each loads a quad of four lines of A, of the next 64 one of B: adjacent lanes store adjacent memory.
  let line = 4u * (lanes.index % 16u);
  let part = lanes.index / 16u % DEPTH;
  var sums = mat4x4<f32>();
  for (var first = 0u; first < quads; first += DEPTH) {
    let quad = first + part;
    workgroupBarrier();
    if (lanes.index < 128u) {
      var by_line = mat4x4<f32>();  // zeros past the end of k
      if (quad < quads) {
        for (var i = 0u; i < 4u; i++) {
          if (lanes.index < 64u) {
            by_line[i] = a_quad(slice, first_a + line + i, quad);
          } else {
            by_line[i] = b_quad(slice, first_b + line + i, quad);
          }
        }
      }
      let by_k = transpose(by_line);
      for (var i = 0u; i < 4u; i++) {
        let at = (4u * part + i) * (SIDE / 4u) + line / 4u;
        if (lanes.index < 64u) { a_tile[at] = by_k[i]; } else { b_tile[at] = by_k[i]; }
      }
    }
    workgroupBarrier();
    for (var k = 0u; k < 4u * DEPTH; k++) {
      sums += outer(a_tile[k * (SIDE / 4u) + lanes.index / 16u], b_tile[k * (SIDE / 4u) + lanes.index % 16u]);
    }
  }
  for (var a = 0u; a < 4u; a++) {
    for (var b = 0u; b < 4u; b++) {
      put(slice, first_a + 4u * (lanes.index / 16u) + a, first_b + 4u * (lanes.index % 16u) + b, sums[a][b]);
    }
  }
}
