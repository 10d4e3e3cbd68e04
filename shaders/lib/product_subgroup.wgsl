// product_workgroup.wgsl for CPUs, by subgroups of 8 lanes without barriers: TOKENS (16) lines of A by 32 lines of B, see
// multiply_shared.wgsl.
const LANES: u32 = 8u;
const SIDE_A: u32 = TOKENS;
const SIDE_B: u32 = 32u;

struct Lanes {
  @builtin(subgroup_invocation_id) index: u32,
}

// One line of A with this lane's lines of B.
fn put_line(slice: u32, a: u32, b: u32, sums: vec4<f32>) {
  put(slice, a, b, sums.x);
  put(slice, a, b + 8u, sums.y);
  put(slice, a, b + 16u, sums.z);
  put(slice, a, b + 24u, sums.w);
}

fn product(slice: u32, first_a: u32, first_b: u32, quads: u32, lanes: Lanes) {
  let b = first_b + lanes.index;
  var sums = array<vec4<f32>, TOKENS>();
  for (var quad = 0u; quad < quads; quad++) {
    let of_b = Quads(
      b_quad(slice, b, quad),
      b_quad(slice, b + 8u, quad),
      b_quad(slice, b + 16u, quad),
      b_quad(slice, b + 24u, quad),
    );
    let a = first_a + lanes.index;
    multiply(&sums, of_b, a_quad(slice, a, quad), a_quad(slice, a + 8u, quad));
  }
  put_line(slice, first_a, b, sums[0]);
  put_line(slice, first_a + 1u, b, sums[1]);
  put_line(slice, first_a + 2u, b, sums[2]);
  put_line(slice, first_a + 3u, b, sums[3]);
  put_line(slice, first_a + 4u, b, sums[4]);
  put_line(slice, first_a + 5u, b, sums[5]);
  put_line(slice, first_a + 6u, b, sums[6]);
  put_line(slice, first_a + 7u, b, sums[7]);
  put_line(slice, first_a + 8u, b, sums[8]);
  put_line(slice, first_a + 9u, b, sums[9]);
  put_line(slice, first_a + 10u, b, sums[10]);
  put_line(slice, first_a + 11u, b, sums[11]);
  put_line(slice, first_a + 12u, b, sums[12]);
  put_line(slice, first_a + 13u, b, sums[13]);
  put_line(slice, first_a + 14u, b, sums[14]);
  put_line(slice, first_a + 15u, b, sums[15]);
}
