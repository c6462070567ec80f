"""The bugs that have a name: how to mend each, the equation it breaks, and who had it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from .findings import UNUSUAL, WRONG, Finding
from .subject import SCALES

__all__ = ["BUGS", "Bug", "bug", "misreading", "unusual", "wrong"]

_KL = "Kingma & Welling 2013, appendix B"
_DRAW = "Kingma & Welling 2013, §2.4"
_PIXELS = "Kingma & Welling 2013, appendix C"
_BOUND, _FORMS, _LOG_P = "Eq. (11)", "Eq. (7)", "Eq. (9)"


class Bug(NamedTuple):
    """A known bug.

    Parameters
    ----------
    cure : str
        How to mend it, in a sentence.
    equation : str
        The equation that it breaks.
    reference : str
        A public code that had it.
    severity : str
        "bug", "report" or "choice".

    Examples
    --------
    >>> bug("KL without ½").severity
    'bug'
    """

    cure: str
    equation: str
    reference: str = ""
    severity: str = "bug"


def misreading(declared: str, read: str, place: str) -> str:
    """Return the name of the bug that takes one meaning of the encoder's output for another.

    Parameters
    ----------
    declared, read : str
        Two of `SCALES`.
    place : str
        "KL", "sampler" or "decoder".

    Returns
    -------
    name : str

    Examples
    --------
    >>> misreading("logvar", "log_sigma", "sampler")
    'log σ² read as log σ in the sampler'
    """
    return f"{SCALES[declared]} read as {SCALES[read]} in the {place}"


_KL_BUGS = {
    "KL without its −1": Bug(
        "KL = ½ Σ_j (μ² + σ² − log σ² − 1): subtract the 1 for each latent.",
        _KL,
        "ericjang/draw (for all latents but one)",
    ),
    "KL with one −1 for all latents": Bug(
        "The −1 stands inside the sum over latents: subtract J/2, not ½.", _KL, "ericjang/draw"
    ),
    "KL without ½": Bug(
        "Multiply the KL by ½.", _KL, "aladdinpersson/Machine-Learning-Collection"
    ),
    "sign of the KL": Bug("The KL is subtracted from the ELBO, added to the loss.", _BOUND),
    "KL averaged over latents": Bug(
        "Sum the KL over the latents: a mean is β = 1/J.", _KL, "SeldonIO/alibi-detect"
    ),
    "KL missing": Bug("Add the KL to the loss.", _BOUND),
    "σ² squared in the KL": Bug(
        "The KL has σ² and log σ²: exp(2 s) belongs to s = log σ, whose log σ² is 2 s.", _KL
    ),
    "μ² missing in the KL": Bug("Add Σ μ²/2 to the KL.", _KL),
    "sign of μ² in the KL": Bug("Σ μ²/2 is added in the KL.", _KL),
    "variance missing in the KL": Bug("Add Σ σ²/2 to the KL.", _KL),
    "log σ² missing in the KL": Bug("Subtract Σ log σ²/2 in the KL.", _KL),
    "prior of another variance": Bug(
        "The prior is N(0, 1): its log standard deviation is 0, not 1.", _KL, "HIPS/autograd"
    ),
    "KL of another distribution": Bug(
        "Compare the function with KL = ½ Σ_j (μ² + σ² − log σ² − 1).", _KL
    ),
}
_DRAW_BUGS = {
    "exp(¼ log σ²) as standard deviation": Bug("σ = exp(½ log σ²).", _DRAW),
    "noise of the wrong size": Bug(
        "ε has the standard deviation 1.", _DRAW, "keras-team/keras, examples of 2016"
    ),
    "z scaled after the draw": Bug(
        "The KL is that of the scaled z, or z is not scaled.",
        _DRAW,
        "theSohamTUmbare/Variational-AutoEncoder",
    ),
    "mean decoded": Bug(
        "The bound needs z = μ + σ ε also in evaluation.", _BOUND, "YannDubs/disentangling-vae"
    ),
    "μ + σ decoded, without noise": Bug(
        "z = μ + σ ε with ε ~ N(0, 1).", _DRAW, "Project-MONAI/MONAI"
    ),
    "uniform noise": Bug("Draw ε from N(0, 1).", _DRAW, "psycoplankton/VAE-from-scratch"),
    "noise is not normal": Bug("Draw ε from N(0, 1).", _DRAW),
    "one ε for the whole batch": Bug("Draw an ε for each row.", _DRAW),
    "one ε for all latents": Bug("Draw an ε for each latent.", _DRAW, "ericjang/draw"),
    "same ε in every call": Bug("Draw a new ε in every call.", _DRAW),
    "second output of encode is not what is declared": Bug(
        "Declare the scale that the draws and the KL both use.",
        _DRAW,
        severity="report",
    ),
    "σ of a form of its own": Bug(
        "None needed: the KL is that of the draws.", _DRAW, severity="choice"
    ),
    "standard deviation is another function": Bug("z = μ + σ ε.", _DRAW),
}
_PIXEL_BUGS = {
    "reconstruction averaged over pixels": Bug(
        "Sum log p(x|z) over the pixels: a mean is β = D.",
        _PIXELS,
        "kryptologyst/Variational-Autoencoder-Implementation",
    ),
    "(1−x) term missing": Bug(
        "log p(x|z) = Σ x log p + (1−x) log(1−p): both terms are needed.", _PIXELS
    ),
    "x term missing": Bug(
        "log p(x|z) = Σ x log p + (1−x) log(1−p): both terms are needed.", _PIXELS
    ),
    "sigmoid applied twice": Bug(
        "Pass logits to a loss with logits, or probabilities to one without.", _PIXELS
    ),
    "logits taken for probabilities": Bug("Apply the sigmoid first.", _PIXELS),
    "x and reconstruction swapped": Bug("Exchange the two arguments.", _PIXELS),
    "squared error in place of the log-likelihood": Bug(
        "Use the cross-entropy, or declare a Gaussian likelihood.", _PIXELS
    ),
    "absolute error in place of the log-likelihood": Bug(
        "Use the declared log-likelihood.", _PIXELS
    ),
    "clipped cross-entropy": Bug(
        "Compute the cross-entropy from logits: x l − softplus(l).", _PIXELS
    ),
    "infinite cross-entropy": Bug(
        "Compute the cross-entropy from logits: x l − softplus(l).",
        _PIXELS,
        "hwalsuklee/tensorflow-mnist-VAE",
        "report",
    ),
    "Gaussian constant missing": Bug(
        "Add D/2 log 2πσ² to −log p(x|z): without it a reported log p(x) is of no density.",
        _PIXELS,
        severity="report",
    ),
    "log 2π missing in the Gaussian constant": Bug(
        "The constant is D/2 log 2πσ².", _PIXELS, severity="report"
    ),
    "log σ² missing in the Gaussian constant": Bug(
        "The constant is D/2 log 2πσ².", _PIXELS, severity="report"
    ),
    "Gaussian constant of one pixel": Bug(
        "The constant ½ log 2πσ² belongs to each of D pixels.", _PIXELS, severity="report"
    ),
    "Gaussian constant counted D times": Bug(
        "The constant ½ log 2πσ² belongs to each pixel once.", _PIXELS, severity="report"
    ),
    "π = 3.14 in the Gaussian constant": Bug(
        "Write math.pi: 3.14 costs D/2 log(π/3.14) nats.",
        _PIXELS,
        "masato-ka/airc-rl-agent",
        "report",
    ),
    "gray pixels with a Bernoulli likelihood": Bug(
        "Binarize x, or take the bound for that of another likelihood: −log p of a gray value is "
        "no log-likelihood.",
        _PIXELS,
        severity="choice",
    ),
    "x outside the range of its likelihood": Bug(
        "Scale x to the values that its likelihood knows.", _PIXELS, severity="choice"
    ),
    "inverted binarization": Bug(
        "The background is 1: compare figures only with those of data coded alike.",
        _PIXELS,
        severity="choice",
    ),
    "Gaussian constant": Bug(
        "The constant of a Gaussian log density is D/2 log 2πσ².", _PIXELS, severity="report"
    ),
    "½ missing in the log variance of the decoder": Bug(
        "log N(x; m, v) = −½ (x − m)²/v − ½ log 2πv.", _PIXELS
    ),
    "log variance missing in the decoder": Bug(
        "log N(x; m, v) = −½ (x − m)²/v − ½ log 2πv.", _PIXELS
    ),
    "another density of x": Bug(
        "None needed: Σ_x exp(−reconstruction) = 1; declare `output` if it is a known one.",
        _PIXELS,
        severity="choice",
    ),
    "reconstruction of another distribution": Bug(
        "Compare the function with −log p(x|z).", _PIXELS
    ),
}
_ASSEMBLY_BUGS = {
    "sign of the loss": Bug("A loss that is minimized is −ELBO.", _BOUND),
    "declared free bits ignored": Bug(
        "Take the greater of the KL of a latent and its floor, or declare none.", _BOUND
    ),
    "free bits of another size": Bug(
        "The floor is declared in nats for each latent.", _BOUND, severity="choice"
    ),
    "declared β ignored": Bug("Multiply the KL by β.", _BOUND, "AlexanderVNikitin/tsgm"),
    "KL summed over the batch, reconstruction averaged": Bug(
        "Treat the rows of a batch alike in both terms.", _BOUND
    ),
    "reconstruction summed over the batch, KL averaged": Bug(
        "Treat the rows of a batch alike in both terms.", _BOUND
    ),
    "reconstruction divided by the batch twice": Bug(
        "The mean over rows is already taken: do not divide by B again.",
        _BOUND,
        "theSohamTUmbare/Variational-AutoEncoder",
    ),
    "KL divided by the batch twice": Bug(
        "The mean over rows is already taken: do not divide by B again.", _BOUND
    ),
    "nominal batch size in the divisor": Bug(
        "Divide by the number of rows of this batch.", _BOUND, "pytorch/examples before 2018"
    ),
    "rows of a batch left out": Bug("Every row of a batch counts, also in the last one.", _BOUND),
    "rows of a batch are mixed": Bug(
        "Compare each row of x with its own reconstruction.",
        _BOUND,
        "arahuja/generative-tf",
    ),
    "batch statistics": Bug(
        "The bound of a row depends on its company; evaluate with fixed statistics.",
        _BOUND,
        "HIPS/autograd",
        "choice",
    ),
    "weight of the KL": Bug("The ELBO has β = 1; declare another β.", _BOUND),
    "reconstruction and KL are not of one ELBO": Bug(
        "Compare the loss with −log p(x|z) + KL at the same z.", _BOUND
    ),
    "σ ≥ 1 everywhere": Bug(
        "An activation keeps log σ² positive: remove it.",
        _KL,
        "wohlert/semi-supervised-pytorch",
        "choice",
    ),
    "μ ≥ 0 everywhere": Bug(
        "An activation keeps μ positive: remove it.", _KL, "arahuja/generative-tf", "choice"
    ),
    "argument changed in place": Bug("Work on a copy of the argument.", "", severity="report"),
}
_GRADIENT_BUGS = {
    "sign of the gradient": Bug("The gradient of the loss, not of the ELBO.", _BOUND),
    "gradient summed, value averaged": Bug("Divide the gradient by the number of rows.", _BOUND),
    "gradient averaged, value summed": Bug(
        "The gradient of a sum over rows is a sum over rows.", _BOUND
    ),
    "gradient off by a factor": Bug("The gradient belongs to another scale.", _BOUND),
    "½ missing in ∂σ": Bug("∂σ/∂log σ² = ½ σ.", _DRAW),
    "path through σ detached": Bug("z depends on σ: send ∂z/∂σ = ε back.", _DRAW),
    "path through μ detached": Bug("z depends on μ: send ∂z/∂μ = 1 back.", _DRAW),
    "z detached": Bug("Send the gradient through z = μ + σ ε to the encoder.", _DRAW),
    "gradient of the KL missing": Bug("∂KL/∂μ = μ, ∂KL/∂log σ² = ½ (σ² − 1).", _KL),
    "gradient of the KL in log σ² missing": Bug("∂KL/∂log σ² = ½ (σ² − 1).", _KL),
    "gradient of the KL in μ missing": Bug("∂KL/∂μ = μ.", _KL),
    "gradient of the KL not divided by the batch": Bug("Divide both terms alike.", _BOUND),
    "sign of the gradient of the KL": Bug("Both terms of the loss are added.", _BOUND),
    "½ missing in the gradient of the KL": Bug("∂KL/∂log σ² = ½ (σ² − 1).", _KL),
    "gradient of the KL off by a factor": Bug("∂KL/∂μ = μ, ∂KL/∂log σ² = ½ (σ² − 1).", _KL),
    "noise drawn again in the backward pass": Bug(
        "Keep the ε of the forward pass for the backward pass.", _DRAW
    ),
    "path of log p(z) missing": Bug("In Eq. (7) also log p(z) depends on φ through z.", _FORMS),
    "half the derivative of the output": Bug("∂(−log p)/∂logits = p − x.", _PIXELS),
    "derivative of the sigmoid twice": Bug("∂(−log p)/∂logits = p − x.", _PIXELS),
    "derivative of tanh at a sigmoid output": Bug("∂(−log p)/∂logits = p − x.", _PIXELS),
    "derivative of the output": Bug("∂(−log p)/∂logits = p − x.", _PIXELS),
    "derivative of an activation in the decoder": Bug(
        "Multiply by f′ of the layer's own activation.", _BOUND
    ),
    "derivative of an activation in the encoder": Bug(
        "Multiply by f′ of the layer's own activation.", _BOUND
    ),
    "updated weights in the backward pass": Bug(
        "Compute all gradients before the first update.", _BOUND
    ),
    "only the branch of μ sent back": Bug(
        "The hidden layer receives the gradients of both heads: add them.", _BOUND
    ),
    "only the branch of log σ² sent back": Bug(
        "The hidden layer receives the gradients of both heads: add them.", _BOUND
    ),
    "bias averaged over the batch": Bug("Sum the gradient of a bias over the rows.", _BOUND),
    "gradient of one block": Bug("Compare this block with finite differences.", _BOUND),
    "another unbiased estimator": Bug(
        "None needed: it differs from the derivative of the value, and agrees in its mean.",
        _BOUND,
        severity="choice",
    ),
    "gradient is that of another value": Bug(
        "It is the gradient of a function, but not of the loss: one of both is not the bound.",
        _BOUND,
        "xqding/Importance_Weighted_Autoencoders",
    ),
    "gradient is right at some parameters only": Bug(
        "Look for what depends on the parameters in steps: a clip, a cache, a switch.", _BOUND
    ),
    "gradient is not that of the value": Bug("Compare it with finite differences.", _BOUND),
}
_EVALUATION_BUGS = {
    "importance-weighted bound": Bug(
        "None needed: the loss is −L_K, the bound of K importance weights.",
        _LOG_P,
        severity="choice",
    ),
    "weights averaged in log space": Bug(
        "log (1/K) Σ w, not (1/K) Σ log w: use log-mean-exp.", _LOG_P
    ),
    "log K not subtracted": Bug("Subtract log K: the weights are averaged.", _LOG_P),
    "another K subtracted": Bug(
        "Subtract the logarithm of the number of draws.", _LOG_P, "scverse/scvi-tools", "report"
    ),
    "Σ w̃ log w reported as the value": Bug(
        "Σ w̃ log w has the gradient of L_K, not its value.",
        _LOG_P,
        "xqding/Importance_Weighted_Autoencoders",
    ),
    "greatest weight for the mean of weights": Bug("Use log-mean-exp.", _LOG_P),
    "sign in the weights": Bug("log w = log p(x, z) − log q(z|x).", _LOG_P),
    "analytic KL in the weights": Bug(
        "The weights need log p(z) − log q(z|x) at each draw.", _LOG_P
    ),
    "rows mixed among the weights": Bug(
        "Reshape in the order in which the rows were repeated.", _LOG_P, "arahuja/generative-tf"
    ),
    "q missing in the weights": Bug("log w = log p(x, z) − log q(z|x).", _LOG_P),
    "prior missing in the weights": Bug("log w = log p(x, z) − log q(z|x).", _LOG_P),
    "weights underflow": Bug(
        "Subtract the greatest log weight before exp.",
        _LOG_P,
        "xqding/Importance_Weighted_Autoencoders",
    ),
    "log q(z|x) missing in Eq. (7)": Bug(
        "The integrand is log p(x|z) + log p(z) − log q(z|x).", _FORMS
    ),
    "log p(z) missing in Eq. (7)": Bug(
        "The integrand is log p(x|z) + log p(z) − log q(z|x).", _FORMS
    ),
    "sign of log q(z|x) in Eq. (7)": Bug(
        "The integrand is log p(x|z) + log p(z) − log q(z|x).", _FORMS
    ),
    "log 2π in one density of Eq. (7)": Bug(
        "Keep the constant log 2π in both densities of z, or in none.", _FORMS, severity="report"
    ),
    "Eq. (7) and Eq. (11) differ in their mean": Bug(
        "Both are the ELBO: compare the KL with log q(z|x) − log p(z) at the draws.", _FORMS
    ),
    "loss is not the bound of K samples": Bug(
        "L_K = E[log (1/K) Σ_k p(x, z_k)/q(z_k|x)].", _LOG_P
    ),
    "K ignored": Bug("Draw K times for each row, and average the K weights.", _LOG_P),
    "draws are not the n of log n": Bug(
        "Subtract the logarithm of the number of draws that were made.",
        _LOG_P,
        "scverse/scvi-tools",
        "report",
    ),
    "evaluation draws from the training generator": Bug(
        "Give the evaluation a generator of its own: then training does not depend on it.",
        "",
        "HIPS/autograd",
        "choice",
    ),
    "weights of the terms differ between training and evaluation": Bug(
        "Use the same β in both, or report the two terms apart.", _BOUND, severity="report"
    ),
    "log p(x) is another function": Bug("log (1/K) Σ_k p(x, z_k)/q(z_k|x).", _LOG_P),
    "evaluation without noise": Bug(
        "The bound needs z = μ + σ ε also in evaluation.",
        _BOUND,
        "YannDubs/disentangling-vae",
        "report",
    ),
    "first batch only": Bug(
        "The return stands inside the loop.", _BOUND, "YannDubs/disentangling-vae", "report"
    ),
    "sum over rows reported": Bug("Divide by the number of rows.", _BOUND, severity="report"),
    "divisor of the reported mean": Bug(
        "Divide the sum over rows by the number of rows.",
        _BOUND,
        "Jackson-Kang/Pytorch-VAE-tutorial",
        "report",
    ),
    "mean of batch means": Bug("Weight each batch by its rows.", _BOUND, severity="report"),
    "sign of the reported figure": Bug(
        "Report the ELBO, or call it a loss.", _BOUND, "HIPS/autograd", "report"
    ),
    "reported figure": Bug(
        "Report the mean of the values of the rows.", _BOUND, severity="report"
    ),
    "generated pixels are not the mean of the decoder": Bug(
        "Generate with the sigmoid of the logits.", _PIXELS, "jax-ml/jax", "report"
    ),
    "softplus for sigmoid in generation": Bug(
        "p = sigmoid(logits).", _PIXELS, "jax-ml/jax", "report"
    ),
}
BUGS = _KL_BUGS | _DRAW_BUGS | _PIXEL_BUGS | _ASSEMBLY_BUGS | _GRADIENT_BUGS | _EVALUATION_BUGS
_SEEN = {"sampler": "keras-team/keras, rachtsingh/ibp_vae", "KL": "keras-team/keras, deepchem"}


def bug(name: str) -> Bug:
    """Return what is known of a bug.

    Parameters
    ----------
    name : str

    Returns
    -------
    bug : Bug

    Examples
    --------
    >>> bug("log σ² read as log σ in the KL").equation
    'Kingma & Welling 2013, appendix B'
    """
    if name in BUGS:
        return BUGS[name]
    declared, _, rest = name.partition(" read as ")
    _, _, place = rest.partition(" in the ")
    equation = {"KL": _KL, "sampler": _DRAW}.get(place, _PIXELS)
    cure = f"The {place} must take this output as {declared}, as it is elsewhere."
    return Bug(cure, equation, _SEEN.get(place, "rail-berkeley/rlkit"))


def wrong(examination: str, name: str, expected: str, found: str, probe: str = "") -> Finding:
    """Return the finding of a bug that has a name.

    Parameters
    ----------
    examination, name, expected, found, probe : str

    Returns
    -------
    finding : Finding

    Examples
    --------
    >>> wrong("KL", "KL without ½", "1", "2").reference
    'aladdinpersson/Machine-Learning-Collection'
    """
    known = bug(name)
    return Finding(
        examination,
        WRONG,
        known.severity,
        name,
        expected,
        found,
        known.equation,
        known.cure,
        probe,
        known.reference,
    )


def unusual(examination: str, name: str, expected: str, found: str, probe: str = "") -> Finding:
    """Return the finding of a choice that is legitimate, and that the user should know of.

    Parameters
    ----------
    examination, name, expected, found, probe : str

    Returns
    -------
    finding : Finding

    Examples
    --------
    >>> unusual("data", "gray pixels with a Bernoulli likelihood", "0 or 1", "0.5").is_bug
    False
    """
    finding = wrong(examination, name, expected, found, probe)
    return replace(finding, verdict=UNUSUAL, severity="choice")
