// Cooperative matrices of 8x8: the size that Apple's GPUs and Mesa's CPU driver list.
alias Tokens = coop_mat8x8<f16, A>;  // [token, k]
alias Rows = coop_mat8x8<f16, B>;    // [k, row]
alias Sums = coop_mat8x8<f32, C>;    // [token, row]
