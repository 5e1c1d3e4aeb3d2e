#ifndef DIGITS_H
#define DIGITS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DIGITS_ARENA_BYTES 128
int8_t *digits_input0(uint8_t *arena); /* image: int8[1, 5, 6, 2] */
const int8_t *digits_output0(uint8_t *arena); /* conv1/output:0: int8[1, 3, 3, 4] */
int digits_run(uint8_t *arena); /* 0, or the number of a message */
const char *digits_message(int status);

#ifdef __cplusplus
}
#endif

#endif
