/* A library with the functions of NVML that homeport asks for, for machines without a card.
 *
 * Signatures and numbers are those of NVIDIA's NVML documentation (driver 5xx). What it answers stands
 * in the environment:
 *   FAKE_NVML_INIT       what nvmlInitWithFlags returns (a number; 0 when not set)
 *   FAKE_NVML_CARDS      "TOTAL:FREE:STATUS:MIG,…", sizes in bytes, STATUS what the memory call returns
 *   FAKE_NVML_PROCESSES  "CARD:PID:BYTES,…"; "refused" for NVML_ERROR_NO_PERMISSION
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NO_PERMISSION = 4, INSUFFICIENT_SIZE = 7, CARDS = 8 };

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } Process;
static struct { unsigned long long total, free; int status; unsigned mig; } cards[CARDS];
static unsigned count;

static long at(void *handle) { return (long)handle - 1; }

int nvmlInitWithFlags(unsigned flags) {
    const char *text = getenv("FAKE_NVML_INIT");
    if (text && atoi(text)) return atoi(text);
    char *copy = strdup(getenv("FAKE_NVML_CARDS") ? getenv("FAKE_NVML_CARDS") : "");
    for (char *card = strtok(copy, ","); card && count < CARDS; card = strtok(NULL, ","), count++)
        sscanf(card, "%llu:%llu:%d:%u", &cards[count].total, &cards[count].free,
               &cards[count].status, &cards[count].mig);
    free(copy);
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *found) { *found = count; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(long)(index + 1);
    return OK;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
    snprintf(uuid, size, "GPU-%08lx-aaaa", at(handle));
    return OK;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    *current = *pending = cards[at(handle)].mig;
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    memory->total = cards[at(handle)].total;
    memory->free = cards[at(handle)].free;
    memory->used = memory->total - memory->free;
    return cards[at(handle)].status;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *size, Process *found) {
    const char *text = getenv("FAKE_NVML_PROCESSES");
    if (text && !strcmp(text, "refused")) return NO_PERMISSION;
    char *copy = strdup(text ? text : "");
    unsigned number = 0, room = found ? *size : 0;
    for (char *entry = strtok(copy, ","); entry; entry = strtok(NULL, ",")) {
        long card;
        Process process = {0};
        if (sscanf(entry, "%ld:%u:%llu", &card, &process.pid, &process.used) != 3) continue;
        if (card != at(handle)) continue;
        if (number < room) found[number] = process;
        number++;
    }
    free(copy);
    *size = number;
    return number > room ? INSUFFICIENT_SIZE : OK;
}
