// Cooperative matrices of 16x16: what the GPUs list that have units for them behind Vulkan.
const SIZE: u32 = 16u;
alias Tokens = coop_mat16x16<f16, A>;  // [token, k]
alias Rows = coop_mat16x16<f16, B>;    // [k, row]
alias Sums = coop_mat16x16<f32, C>;    // [token, row]
