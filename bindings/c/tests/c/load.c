// Prints the status and the text of loading a model.
// load PATH

#include "check.h"

int main(int argc, char **argv) {
  peregrine_engine *engine = (peregrine_engine *)8;
  peregrine_status status;
  CHECK(argc == 2);
  status = peregrine_engine_load(argv[1], NULL, NULL, NULL, &engine);
  CHECK((status == PEREGRINE_OK) == (engine != NULL));
  printf("%d %s", (int)status, peregrine_last_error());
  peregrine_engine_free(engine);
  return 0;
}
