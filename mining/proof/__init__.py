"""What mined boxes are worth: the same detector trained on different boxes of the same images, tested on others.

trainings          which trainings there are, and what each learns from
simulated_review   boxes that a person would have corrected, played by the ground truth
test_detections    the boxes of a detector on the test images
figures            average precision with intervals over test images and seeds; paired differences
worth              how many true boxes the mined ones are worth
folder, job, page  the folder; its steps and proof.json; proof.html
"""
