// Cooperative matrices of 16x16: the size that GPUs with matrix units list in Vulkan.
alias Tokens = coop_mat16x16<f16, A>;  // [token, k]
alias Rows = coop_mat16x16<f16, B>;    // [k, row]
alias Sums = coop_mat16x16<f32, C>;    // [token, row]
