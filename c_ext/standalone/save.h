/* Writes the memory of this process into a new executable. */
#ifndef OCIRT_STANDALONE_SAVE_H
#define OCIRT_STANDALONE_SAVE_H

/* Whether this is the saved image: 0 while it is being made. */
extern int image_saved;

/* Whether this process makes an image: fixed.c. */
extern int image_is_being_made;

/* Whether this program was linked with the layout that saving needs (tools/standalone/layout.py). */
int image_can_be_saved(void);

/* Writes the image to `path`, mode 0755. Returns 0 or -errno. */
int save_image(const char *path);

#endif
